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

/** Notes what is expected of a call. Of one that is recorded `now` it is not certain that it is ever recorded: see `isRecorded`. */
export const expect = Effect.fnUntraced(function*({ call, chunks }: PlannedCall, { place, way }: Recorded) {
  const sql = yield* SqlClient.SqlClient
  for (const { failures, fate, part, rows } of chunks) {
    yield* sql`
      insert into expected (call_id, part, place, fate, rows, failures, ordering_key, way, is_certain)
      values (${call.callId}, ${part}, ${place}, ${fate}, ${rows}, ${failures}, ${call.orderingKey ?? null}, ${way}, ${
      way !== "now"
    })
      on conflict do nothing`
  }
})

/** Notes that a call was said to be recorded. */
export const isRecorded = (callId: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`update expected set is_certain = true where call_id = ${callId}`)
