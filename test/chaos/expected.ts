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

/** Notes what is expected of a call. */
export const expect = Effect.fnUntraced(function*({ call, chunks }: PlannedCall, { place, way }: Recorded) {
  const sql = yield* SqlClient.SqlClient
  const state: State = way === "now" ? "running" : "recorded"
  for (const { failures, fate, part, rows } of chunks) {
    yield* sql`
      insert into expected (call_id, part, place, fate, rows, failures, ordering_key, way, state)
      values (${call.callId}, ${part}, ${place}, ${fate}, ${rows}, ${failures}, ${
      call.orderingKey ?? null
    }, ${way}, ${state})
      on conflict do nothing`
  }
})

/** Ends what is running of the calls whose ids begin so. */
export const end = (name: string, state: Exclude<State, "running">) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`update expected set state = ${state} where starts_with(call_id, ${name}) and state = 'running'`
  )
