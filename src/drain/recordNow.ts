/**
 * Records a finished call and persists its outputs in one commit, where that is possible. Otherwise the call is recorded,
 * and persisted as by `persistNow`.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import { ChunkStore, type ChunkStoreError, type Recording, type RecordOutcome } from "../ChunkStore.ts"
import type { DomainEvents } from "../DomainEvents.ts"
import type { DomainObject } from "../DomainObject.ts"
import { freshToken } from "../internal/freshToken.ts"
import { outage } from "../internal/outage.ts"
import type { Restore } from "../internal/restore.ts"
import { mayBeOver } from "../internal/storeErrors.ts"
import { claimScoped } from "./claim.ts"
import type { Engine } from "./engine.ts"
import type { Ran } from "./persistNow.ts"
import * as RecordInside from "./recordInside.ts"
import * as Unrecorded from "./unrecorded.ts"

/** What has run while a call was recorded. */
export interface Note {
  ran: Ran | undefined
  /** The objects, if all of the call was persisted by the store itself. */
  objects?: ReadonlyArray<DomainObject>
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
  const look = lookBy(engine, services)

  /** Retries while the database is away: the answer is paid for, and must be recorded. */
  const keep = (call: Recording) =>
    Effect.retry(store.record([call]), {
      while: mayBeOver,
      schedule: Schedule.upTo(outage, { duration: lease })
    })

  const run = Effect.fnUntraced(function*(options: Unrecorded.Options, onMade: (made: Made) => void) {
    const { call, token } = options
    const unrecorded = yield* Unrecorded.make(store, options)
    onMade(unrecorded)
    const limits = { limit: call.outputs.length, maxBytes: Number.MAX_SAFE_INTEGER }
    const request = { token, worker, lease, inline: true, ...limits }
    const { chunks, outcomes, run } = yield* Effect.provideContext(
      claimScoped(engine, request),
      Context.add(services, ChunkStore, unrecorded.store)
    )
    yield* run
    return { chunks, outcomes }
  }, Effect.scoped)

  const runNew = Effect.fnUntraced(function*(options: Unrecorded.Options, note: Note, restore: Restore) {
    const { call, token } = options
    let unrecorded: Made | undefined
    const exit = yield* Effect.exit(restore(run(options, (made) => {
      unrecorded = made
    })))
    const isRecorded = unrecorded?.isRecorded() === true
    // before the chunks are given up: it waits for a recording that is still under way although its answer was lost
    const recorded = isRecorded ? undefined : yield* Effect.exit(keep(call))
    // recorded beside the handlers' transaction, which then could not run them: the held chunks are claimed as usual
    const isVoid = unrecorded?.isVoid() === true
    if (unrecorded?.mayHold() === true || (isRecorded && (isVoid || Exit.isFailure(exit)))) {
      yield* engine.releases.giveUp(token)
    }
    if (Exit.isFailure(exit)) {
      if (recorded !== undefined) yield* tellOf(recorded)
      return yield* Effect.failCause(exit.cause)
    }
    if (recorded !== undefined) return yield* recorded
    if (!isVoid) note.ran = exit.value
    return ["recorded"] as ReadonlyArray<RecordOutcome>
  })

  const recordOne = Effect.fnUntraced(function*(call: Recording, note: Note, restore: Restore) {
    const looked = yield* Effect.exit(restore(look(call)))
    if (Exit.isFailure(looked)) {
      yield* tellOf(yield* Effect.exit(keep(call)))
      return yield* Effect.failCause(looked.cause)
    }
    const { isNew, objects, paused } = looked.value
    if (objects !== undefined) {
      note.objects = objects
      return ["recorded"] as ReadonlyArray<RecordOutcome>
    }
    if (!isNew) return yield* restore(store.record([call]))
    const token = yield* freshToken
    return yield* runNew({ call, token, worker, lease, within: recordWithin, paused }, note, restore)
  })

  return (calls) =>
    Effect.flatMap(CurrentNote, (note) => {
      const [call] = calls
      // what is not due is not run
      return call === undefined || note === undefined || call.notBefore !== undefined
        ? store.record(calls)
        : Effect.uninterruptibleMask((restore) => recordOne(call, note, restore))
    })
}

/** The store by which the engine works on an unrecorded call. */
type Made = Effect.Success<ReturnType<typeof Unrecorded.make>>

/** The objects of a call, if the store has recorded and persisted it; or whether it is new, as far as is known. */
const lookBy = (engine: Engine, services: Context.Context<ChunkStore | DomainEvents>) => {
  const store = Context.get(services, ChunkStore)
  const recordInside = RecordInside.make(engine, services)
  return Effect.fnUntraced(function*(call: Recording) {
    const objects = yield* recordInside(call)
    if (objects !== undefined || (yield* store.isNested)) return { objects, isNew: false, paused: undefined }
    return {
      objects,
      ...(canAskLater(engine, call) ? { isNew: true, paused: undefined } : yield* store.isNew(call.callId))
    }
  })
}

/**
 * Whether the transaction of the handlers may ask whether the call is new. It cannot if the call is recorded before they
 * run, or if one of its chunks is settled without a run.
 */
const canAskLater = ({ registry, settings }: Engine, { namespace, orderingKey, outputs }: Recording): boolean =>
  orderingKey === undefined && !Duration.isZero(settings.recordWithin) &&
  outputs.every(({ schema, version }) => {
    const handler = registry.find(namespace, schema)
    return handler !== undefined && version <= handler.output.version
  })

/** Logs that a recording failed: its caller gets another error, or was interrupted. */
const tellOf = (recorded: Exit.Exit<unknown, ChunkStoreError>) =>
  Exit.isSuccess(recorded) ? Effect.void : Effect.logWarning("an answer could not be recorded", recorded.cause)
