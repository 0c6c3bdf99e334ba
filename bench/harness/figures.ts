/**
 * What a run cost: time, WAL, commits, CPU of the server.
 */
import * as fs from "node:fs"
import type { Sql } from "./database.ts"

/** The counters of a server at one moment. */
export interface Counters {
  readonly at: number
  readonly wal: bigint
  readonly commits: number
  /** CPU time of all the server's processes so far, in microseconds; NaN without /proc. */
  readonly cpuMicros: number
}

// the unit of /proc
const ticksPerSecond = 100

/** CPU time of a process, its children that have ended included. */
const cpuOf = (pid: string, withChildren: boolean): number => {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8")
    // the name may hold anything; the fields after it are numbers
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number)
    const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15)
    return (user + system + (withChildren ? childUser + childSystem : 0)) * (1_000_000 / ticksPerSecond)
  } catch {
    return 0
  }
}

const serverCpu = (postmaster: number): number => {
  try {
    const children = fs.readFileSync(`/proc/${postmaster}/task/${postmaster}/children`, "utf8").trim().split(" ")
    return cpuOf(String(postmaster), true) + children.reduce((sum, pid) => sum + cpuOf(pid, false), 0)
  } catch {
    return Number.NaN
  }
}

const postmasterPid = async (sql: Sql): Promise<number> => {
  const [row] = await sql<{ dir: string }>("select current_setting('data_directory') as dir")
  return Number(fs.readFileSync(`${row?.dir}/postmaster.pid`, "utf8").split("\n")[0])
}

/** Reads the counters. */
export const counters = async (sql: Sql): Promise<Counters> => {
  const pid = await postmasterPid(sql)
  const cpuMicros = serverCpu(pid)
  const [row] = await sql<{ wal: string; commits: number }>(`
    select (pg_current_wal_insert_lsn() - '0/0')::text as wal,
      (select xact_commit::float8 from pg_stat_database where datname = current_database()) as commits`)
  return { at: performance.now(), wal: BigInt(row?.wal ?? 0), commits: row?.commits ?? 0, cpuMicros }
}

/** Waits until the counters no longer change: a backend reports its commits at most once a second, and when it ends. */
export const settled = async (sql: Sql): Promise<Counters> => {
  let before = await counters(sql)
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1100))
    const now = await counters(sql)
    // this query is a commit itself
    if (now.commits - before.commits <= 3) return now
    before = now
  }
}
