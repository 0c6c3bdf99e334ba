/**
 * Recorded calls, and what becomes of their chunks, by the port's own verbs.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ChunkStore from "../../ChunkStore.ts"
import type { Claim, ClaimedChunk, ClaimRequest, DeathReason, Failure, Settlement } from "../../ChunkStore.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as ServiceCall from "../../ServiceCall.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import * as inspect from "./inspect.ts"

/** The kinds of answers the calls hold. */
export const reply = "schemas.chatlab.standardized_patient.patient-reply"
export const results = "schemas.chatlab.standardized_patient.patient-results"

/** A recorded call with one answer. */
export const call = (
  callId: string,
  fields: Partial<ServiceCall.ServiceCall> = {},
  output: Partial<ServiceCall.RecordedOutput> = {}
): ServiceCall.ServiceCall => ({
  callId,
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  context: { simulationId: "knee" },
  input: { user_message: "Does it hurt?" },
  outputs: [{ schema: reply, version: 1, data: { text: `Ouch, ${callId}.` }, ...output }],
  ...fields
})

/** The key of a call's only chunk. */
export const keyOf = (callId: string, schemaIdentity = reply, part = ""): ChunkKey => ({ callId, schemaIdentity, part })

/** Records calls. */
export const record = (...calls: ReadonlyArray<ServiceCall.ServiceCall>) =>
  ChunkStore.ChunkStore.use((store) => store.record(calls))

/** Claims all that can be claimed now. */
export const claim = ChunkStore.ChunkStore.use((store) =>
  store.claim({ worker: "test", limit: 10_000, maxBytes: 1e9, lease: Duration.minutes(1) })
)

/** Claims as a request says. */
export const claimWith = (request: Partial<ClaimRequest>) =>
  ChunkStore.ChunkStore.use((store) =>
    store.claim({ worker: "test", limit: 100, maxBytes: 1e9, lease: Duration.minutes(1), ...request })
  )

/** The call ids of a claim, in the order of recording. */
export const idsOf = (chunks: ReadonlyArray<ClaimedChunk>): ReadonlyArray<string> =>
  [...chunks].sort((a, b) => (a.seq < b.seq ? -1 : 1)).map((chunk) => chunk.key.callId)

const failed: Failure = { handler: "chatlab/patient-reply", kind: "failed", message: "the ward is closed" }

/** How a chunk ends. */
export type Fate =
  | "persisted"
  | "nothing"
  | "released"
  | "parked"
  | { readonly retry: Duration.Input }
  | { readonly dead: DeathReason; readonly message?: string; readonly handler?: string }

const settlementOf = (chunk: ClaimedChunk, fate: Exclude<Fate, "persisted" | "nothing">): Settlement => {
  if (fate === "released") return { _tag: "Release", chunk }
  if (fate === "parked") return { _tag: "Park", chunk, reason: "no-handler" }
  if ("retry" in fate) return { _tag: "Retry", chunk, delay: Duration.fromInputUnsafe(fate.retry), failure: failed }
  const { dead, handler = failed.handler, message = failed.message } = fate
  return { _tag: "Bury", chunk, reason: dead, charge: true, failure: { handler, kind: "failed", message } }
}

/** Claims once and ends every chunk as `fate` says. Gives back the claimed call ids, in the order of recording. */
export const settle = Effect.fnUntraced(function*(fate: Fate | ((chunk: ClaimedChunk) => Fate)) {
  const store = yield* ChunkStore.ChunkStore
  const { chunks, token } = yield* claim
  const fates = chunks.map((chunk) => ({ chunk, fate: typeof fate === "function" ? fate(chunk) : fate }))
  const persisted = fates.flatMap(({ chunk, fate }) =>
    fate !== "persisted" && fate !== "nothing" ? [] : [{
      chunk,
      handler: failed.handler,
      handlerVersion: 1,
      objects: fate === "nothing" ? [] : [DomainObject.make("chatlab.Message", `message of ${chunk.key.callId}`)]
    }]
  )
  yield* store.persist(token, () => Effect.succeed(persisted))
  yield* store.settle(
    token,
    fates.flatMap(({ chunk, fate }) => fate === "persisted" || fate === "nothing" ? [] : [settlementOf(chunk, fate)])
  )
  return idsOf(chunks)
})

/** Ends all of a claim as persisted. */
export const persist = ({ chunks, token }: Claim) =>
  ChunkStore.ChunkStore.use((store) =>
    store.persist(
      token,
      () => Effect.succeed(chunks.map((chunk) => ({ chunk, handler: failed.handler, handlerVersion: 1, objects: [] })))
    )
  )

/** Gives back all of a claim. */
export const giveBack = ({ chunks, token }: Claim, hung = false) =>
  ChunkStore.ChunkStore.use((store) => store.settle(token, chunks.map((chunk) => ({ _tag: "Release", chunk, hung }))))

/** Where a call's chunks stand. */
export const statesOf = Effect.fnUntraced(function*(callId: string) {
  const view = yield* inspect.call(callId)
  return view._tag === "Some" ? view.value.chunks.map((chunk) => chunk.state) : []
})
