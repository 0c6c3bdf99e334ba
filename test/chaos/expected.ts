/**
 * The table of what is expected of the calls that are recorded.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import type { PlannedCall } from "./plan.ts"

/** How a call is recorded. */
export interface Recorded {
  readonly place: number
  /** `alone` in a transaction with its row here, `together` with others, or `now`: recorded and persisted at once. */
  readonly way: "alone" | "together" | "now"
}

/**
 * Whether a call is recorded. One that is recorded `now` is `running` at first. If its process dies, or hears no answer, it
 * is `unknown` whether it is ever recorded.
 */
export type State = "recorded" | "running" | "unknown"

/** How many calls each worker records at least, also after the storm. */
export const leastNow = 15

/**
 * Notes what is expected of a call, and says whether it may be recorded. Once it is calm, no worker begins a call `now`
 * beyond its least: the check would find it half done. One statement asks and notes, so that who writes to `calm` under
 * a lock of the table has seen all that began before.
 */
export const expect = Effect.fnUntraced(function*({ call, chunks }: PlannedCall, { place, way }: Recorded) {
  const sql = yield* SqlClient.SqlClient
  const state: State = way === "now" ? "running" : "recorded"
  const goesOn = way !== "now" || place <= leastNow
  const noted = yield* sql`
    insert into expected (call_id, part, place, fate, rows, failures, ordering_key, way, state)
    select ${call.callId}, part, ${place}, fate, rows, failures, ${call.orderingKey ?? null}, ${way}, ${state}
    from jsonb_to_recordset(${
    JSON.stringify(chunks)
  }::jsonb) as chunk(part text, fate text, rows integer, failures integer)
    where ${goesOn}::boolean or not exists (select from calm)
    on conflict do nothing
    returning part`
  return noted.length > 0
})

/** From now on no worker begins more calls than its least. */
export const calm = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql.withTransaction(Effect.andThen(
    sql`lock table calm in access exclusive mode`,
    sql`insert into calm default values`
  ))
})

/** Ends what is running of the calls whose ids begin so. */
export const end = (name: string, state: Exclude<State, "running">) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`update expected set state = ${state} where starts_with(call_id, ${name}) and state = 'running'`
  )
