/**
 * A database of the bench's own with the application's tables, and the processes that use it.
 */
import type { SystemName } from "../systems/index.ts"
import type { Options } from "../systems/system.ts"
import { domainTables, ledgerTable } from "../work.ts"
import { type Child, startChild } from "./child.ts"
import { admin, createDatabase, dropDatabase, type Sql } from "./database.ts"

/** A database, and the processes that use it. */
export interface Workplace {
  readonly url: string
  readonly query: Sql
  /** Starts a process and opens a system in it. */
  readonly open: (system: SystemName, options?: Options) => Promise<Child>
}

/**
 * Drains so many records to warm up, and then records more, which are there to be drained. What the drain changes was
 * written after a checkpoint, so the server does not log whole pages once more.
 */
export const filled = async (
  { query }: Workplace,
  child: Child,
  { records, warmUp }: { readonly records: number; readonly warmUp: number }
): Promise<void> => {
  await child.ask({ op: "fill", from: 0, count: warmUp })
  await child.ask({ op: "drain", count: warmUp })
  await query("checkpoint")
  await child.ask({ op: "fill", from: warmUp, count: records })
  await query("vacuum analyze")
}

/** Makes a workplace for as long as `use` takes; then ends its processes and drops its database. */
export const inWorkplace = async <A>(
  server: string,
  name: string,
  use: (place: Workplace) => Promise<A>
): Promise<A> => {
  const url = await createDatabase(server, name)
  const sql = admin(url)
  const children: Array<Child> = []
  try {
    await sql.query(domainTables)
    await sql.query(ledgerTable)
    return await use({
      url,
      query: sql.query,
      open: async (system, options = {}) => {
        const child = startChild()
        children.push(child)
        await child.ask({ op: "open", system, url, options })
        return child
      }
    })
  } finally {
    for (const child of children) await child.end()
    await sql.close()
    await dropDatabase(server, name)
  }
}
