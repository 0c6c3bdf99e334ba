/**
 * A session holds a snapshot: vacuum can remove nothing meanwhile, and drained chunks stay in the queue's indexes as dead
 * entries. Beside it, in turns, a database without such a session.
 */
import { Client } from "pg"
import type { Child } from "../harness/child.ts"
import { pour } from "../harness/flow.ts"
import { progress, type Row, type Table } from "../harness/output.ts"
import { type Figures, median } from "../harness/rounds.ts"
import { inWorkplace, type Workplace } from "../harness/workplace.ts"
import { verify } from "../work.ts"

const portion = 40_000
const warmUp = 10_000
/** How many records wait at most while they are recorded. */
const backlog = 5000

/** A worker that runs all the time, the process that records for it, and how much is drained so far. */
interface Lane {
  readonly place: Workplace
  readonly recorder: Child
  readonly worker: Child
  drained: number
}

/** Records this many, and waits until they are drained. */
const through = async (lane: Lane, count: number): Promise<void> => {
  lane.drained += await pour({ ...lane, backlog, from: lane.drained, enough: (recorded) => recorded >= count })
}

const opened = async (place: Workplace): Promise<Lane> => {
  const lane = {
    place,
    recorder: await place.open("sluice-watched"),
    // a worker with the usual poll interval and hints
    worker: await place.open("sluice-watched", { ownSchedule: true }),
    drained: 0
  }
  await lane.worker.ask({ op: "start" })
  await through(lane, warmUp)
  return lane
}

/** Measures one portion. */
const once = async (lane: Lane): Promise<Figures> => {
  const began = performance.now()
  await through(lane, portion)
  const perSecond = portion / (performance.now() - began) * 1000
  await verify(lane.place.query, lane.drained)
  const { figures } = await lane.worker.ask({ op: "look" })
  const idle = await lane.recorder.ask({ op: "claimNothing", times: 3 })
  return {
    perSecond,
    claimMillis: figures["claimMillis"] ?? Number.NaN,
    idleMillis: idle.figures["claimMillis"] ?? Number.NaN
  }
}

/** A transaction that has read something and stays open, so it holds a snapshot. */
const snapshot = async (url: string): Promise<{ readonly end: () => Promise<void> }> => {
  const client = new Client({ connectionString: url })
  await client.connect()
  await client.query("begin isolation level repeatable read")
  await client.query("select count(*) from sluice.chunk_queue")
  return {
    end: async () => {
      await client.query("rollback")
      await client.end()
    }
  }
}

interface Turn {
  readonly tenth: number
  readonly free: Figures
  readonly held: Figures
}

const row = (when: string, lane: Lane, dead: number, turns: ReadonlyArray<Turn>): Row => {
  const middle = (of: (turn: Turn) => number | undefined) => median(turns.map((turn) => of(turn) ?? Number.NaN))
  const figures = ["perSecond", "claimMillis", "idleMillis"].map((name) => ({
    [`${name}Free`]: middle(({ free }) => free[name]),
    [`${name}Held`]: middle(({ held }) => held[name]),
    [`${name}Ratio`]: middle(({ free, held }) => (held[name] ?? Number.NaN) / (free[name] ?? Number.NaN))
  }))
  return Object.assign({ when, drained: lane.drained, dead }, ...figures) as Row
}

const deadRows = async ({ query }: Workplace): Promise<number> => {
  const [row] = await query<{ rows: number }>(`
    select n_dead_tup::float8 as rows from pg_stat_user_tables where relid = 'sluice.chunk_queue'::regclass`)
  return row?.rows ?? Number.NaN
}

/** Drains beside a held snapshot for so many minutes. */
export const beside = (server: string, minutes: number): Promise<Table> =>
  inWorkplace(server, "free", (freePlace) =>
    inWorkplace(server, "held", async (heldPlace) => {
      const free = await opened(freePlace)
      const held = await opened(heldPlace)
      const rows: Array<Row> = []
      const both = async (tenth: number): Promise<Turn> => ({ tenth, free: await once(free), held: await once(held) })
      rows.push(row("before", held, await deadRows(heldPlace), [await both(0)]))
      const holding = await snapshot(heldPlace.url)
      const began = performance.now()
      const tenths = () => Math.floor((performance.now() - began) / (minutes * 6000)) + 1
      let turns: Array<Turn> = []
      do {
        const turn = await both(tenths())
        // one row for each tenth, which its later turns replace
        if (turn.tenth === turns.at(-1)?.tenth) rows.pop()
        else turns = []
        turns.push(turn)
        rows.push(row(`tenth ${turn.tenth}`, held, await deadRows(heldPlace), turns))
        progress(`held: ${held.drained} drained: ${JSON.stringify(turn.held)} beside ${JSON.stringify(turn.free)}`)
      } while (tenths() <= 10)
      await holding.end()
      await heldPlace.query("vacuum analyze sluice.chunk_queue")
      rows.push(row("let go, and vacuumed", held, await deadRows(heldPlace), [await both(11)]))
      return {
        title: `Portions of ${
          portion.toLocaleString("en-US")
        } records recorded and drained beside a snapshot held for ${minutes} minutes`,
        columns: [
          { field: "when", heading: "when" },
          { field: "drained", heading: "drained so far" },
          { field: "dead", heading: "dead rows" },
          { field: "perSecondFree", heading: "records/s, free" },
          { field: "perSecondHeld", heading: "held" },
          { field: "perSecondRatio", heading: "ratio", digits: 2 },
          { field: "claimMillisFree", heading: "claim ms, free", digits: 2 },
          { field: "claimMillisHeld", heading: "held", digits: 2 },
          { field: "claimMillisRatio", heading: "ratio", digits: 2 },
          { field: "idleMillisFree", heading: "claim of nothing ms, free", digits: 2 },
          { field: "idleMillisHeld", heading: "held", digits: 2 }
        ],
        rows,
        notes: ["Dead rows are the server's own count, which is some seconds late."]
      }
    }))
