/**
 * Records a finished call and persists its outputs in one commit, where that is possible. Otherwise the call is recorded, and
 * persisted as by `persistNow`.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { ChunkStore, type RecordOutcome } from "../ChunkStore.ts"
import type { DomainEvents } from "../DomainEvents.ts"
import { freshToken } from "../internal/freshToken.ts"
import type { ServiceCall } from "../ServiceCall.ts"
import { claimScoped } from "./claim.ts"
import type { Engine } from "./engine.ts"
import type { Ran } from "./persistNow.ts"
import * as Unrecorded from "./unrecorded.ts"

/** What has run while a call was recorded. */
export interface Note {
  ran: Ran | undefined
}

/** The note of the recording in progress. Without one, a call is only recorded. */
export const CurrentNote = Context.Reference<Note | undefined>("effect-sluice/drain/CurrentNote", {
  defaultValue: () => undefined
})

/** The verb `record` of a store: it runs the handlers of a new call in the transaction that records it, and takes note. */
export const recordAndRun = (
  engine: Engine,
  services: Context.Context<ChunkStore | DomainEvents>,
  worker: string
): ChunkStore["Service"]["record"] => {
  const store = Context.get(services, ChunkStore)
  const { lease, recordWithin } = engine.settings

  const runNew = Effect.fnUntraced(function*(options: Unrecorded.Options, note: Note) {
    const { call, token } = options
    let unrecorded: Effect.Success<ReturnType<typeof Unrecorded.make>> | undefined
    const running = Effect.scoped(Effect.gen(function*() {
      unrecorded = yield* Unrecorded.make(store, options)
      const request = { token, worker, lease, limit: call.outputs.length, maxBytes: Number.MAX_SAFE_INTEGER }
      const { chunks, outcomes, run } = yield* Effect.provideContext(
        claimScoped(engine, request),
        Context.add(services, ChunkStore, unrecorded.store)
      )
      yield* run
      return { chunks, outcomes }
    }))
    return yield* Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
      const exit = yield* Effect.exit(restore(running))
      const isRecorded = unrecorded?.isRecorded() === true
      if (unrecorded?.mayHold() === true || (isRecorded && Exit.isFailure(exit))) yield* engine.releases.giveUp(token)
      // whatever became of the handlers, and of the caller: the answer is paid for
      if (Exit.isFailure(exit)) {
        if (!isRecorded) yield* Effect.ignoreCause(store.record([call]), { log: "Warn" })
        return yield* Effect.failCause(exit.cause)
      }
      if (!isRecorded) return yield* store.record([call])
      note.ran = exit.value
      return ["recorded"] as ReadonlyArray<RecordOutcome>
    }))
  })

  return Effect.fnUntraced(function*(calls) {
    const [call] = calls
    const note = yield* CurrentNote
    if (call === undefined || note === undefined || !isAtOnce(call) || Duration.isZero(recordWithin)) {
      return yield* store.record(calls)
    }
    const { isNew, paused } = yield* store.isNew(call.callId)
    if (!isNew) return yield* store.record(calls)
    const token = yield* freshToken
    return yield* runNew({ call, token, worker, lease, within: recordWithin, paused }, note)
  })
}

/** What has an ordering key may have something before it, and what is not due is not run. */
const isAtOnce = ({ notBefore, orderingKey }: ServiceCall): boolean =>
  notBefore === undefined && orderingKey === undefined
