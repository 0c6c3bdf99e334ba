/**
 * How large the queue is on the disk, and how many updates and vacuums led to that.
 */
import type { Sql } from "../harness/database.ts"
import { sleep } from "../harness/flow.ts"
import type { Figures } from "../harness/rounds.ts"

/** Sizes in bytes; rows and updates as the server counts them, some seconds late. */
export const queueState = async (sql: Sql): Promise<Figures> => {
  const [state] = await sql<Record<string, number>>(`
    select pg_relation_size(relid)::float8 as "tableBytes", pg_indexes_size(relid)::float8 as "indexBytes",
      n_dead_tup::float8 as "dead", autovacuum_count::float8 as "vacuums",
      n_tup_upd::float8 as "updated", n_tup_hot_upd::float8 as "inPlace",
      n_tup_del::float8 as "deleted"
    from pg_stat_user_tables where relid = 'sluice.chunk_queue'::regclass`)
  return { ...state }
}

/** The same, once the server's statistics count so many deleted rows: backends report within ten seconds. */
export const queueStateAfter = async (sql: Sql, deleted: number): Promise<Figures> => {
  for (let look = 0;; look++) {
    const state = await queueState(sql)
    if ((state["deleted"] ?? 0) >= deleted || look === 12) return state
    await sleep(1000)
  }
}
