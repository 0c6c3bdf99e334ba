/**
 * What people change: programs that sessions run beside each other.
 */
import { ChunkStore, DeadLetters, Erasure, EventLog, Pauses, Retention } from "effect-sluice"
import type { DeadLetterFilter } from "effect-sluice/DeadLetters"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { keyOf, reply } from "../contract/operators/dialogues.ts"
import { lease } from "./draining.ts"
import type { Program } from "./session.ts"

/** Discards letters. */
export const discard = (filter: DeadLetterFilter): Program =>
  DeadLetters.DeadLetters.use((letters) => letters.discard(filter, "no"))

/** Moves letters back. */
export const redrive = (filter: DeadLetterFilter): Program =>
  DeadLetters.DeadLetters.use((letters) => letters.redrive(filter))

/** Asks again for a rejected answer, and has one, or none. */
export const repair = (answered: boolean): Program =>
  Effect.gen(function*() {
    const letters = yield* DeadLetters.DeadLetters
    const begun = yield* letters.beginRepair(keyOf("a"), { most: 1, lease })
    if (Option.isNone(begun)) return
    const end = answered ? { output: { version: 1, data: { text: "mended" } } } : { error: "no" }
    yield* letters.endRepair(keyOf("a"), begun.value.token, end)
  })

const because = { because: "no", by: "w" }

/** Erases a call. */
export const eraseCall = (callId: string): Program =>
  Erasure.Erasure.use((erasure) => erasure.erase(Erasure.Subject.Call({ callId }), because))

/** Erases all calls of the place. */
export const eraseAll: Program = Erasure.Erasure.use((erasure) =>
  erasure.erase(Erasure.Subject.Context({ key: "patientId", value: "Miller" }), because)
)

/** Erases every other call: what stays lies between what goes. */
export const eraseOthers: Program = Erasure.Erasure.use((erasure) =>
  erasure.erase(Erasure.Subject.Context({ key: "turn", value: "odd" }), because)
)

const kind = { namespace: "chatlab", schemaIdentity: "*" }

/** Pauses. */
export const pause: Program = Pauses.Pauses.use((pauses) => pauses.pause(kind, "no"))

/** Pauses, lets a worker see it, and resumes. */
export const pauseAndResume: Program = Effect.gen(function*() {
  const pauses = yield* Pauses.Pauses
  const store = yield* ChunkStore.ChunkStore
  yield* pauses.pause(kind, "no")
  yield* store.beat("pausing", [{ namespace: "chatlab", schemaIdentity: reply }])
  yield* pauses.resume(kind)
  yield* store.beat("pausing", [{ namespace: "chatlab", schemaIdentity: reply }])
})

/** Deletes what is old. */
export const prune: Program = Retention.Retention.use((retention) =>
  retention.prune({ payloads: Duration.zero, failures: Duration.zero })
)

/** Releases what waits behind nothing. */
export const mend: Program = Effect.flatMap(ChunkStore.ChunkStore, (store) => store.releaseWaiting)

/** Makes the log this cluster's, which has come from another. */
export const rebase: Program = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`update sluice.subscription_log set witness = '0'`
  const log = yield* EventLog.EventLog
  yield* log.rebase
})
