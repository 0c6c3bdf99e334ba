/**
 * The types and helpers of a batch (chunks of one handler in one transaction), and `carryOut`, which executes one run
 * under its time limit. The three ways to run a batch are in `runInTurn.ts`, `runTogether.ts` and `runMany.ts`.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { ChunkStoreError, type Persisted, type Rule, type Transaction, type Watch } from "../ChunkStore.ts"
import type { DomainObject } from "../DomainObject.ts"
import type { Handler } from "../Handler.ts"
import { handlerDefect, objectsOf, runHandler } from "../internal/handlerResult.ts"
import { RunningChunks } from "../internal/RunningChunks.ts"
import { type BatchFailed, BatchSuffered, HandlerTimeout, NotShared } from "./failure.ts"
import type { Held } from "./held.ts"
import { traced } from "./observe/spans.ts"
import type { Prepared } from "./prepare.ts"
import type { Pulse } from "./pulse.ts"
import type * as Supervisor from "./supervisor.ts"

/** The result of a committed batch. */
export interface Committed {
  readonly persisted: ReadonlyArray<Persisted>
  /** Failed before they sent anything to the database, so the others could commit without them. */
  readonly failedUnsent: ReadonlyMap<Prepared, Cause.Cause<unknown>>
  /** Not run, in the order of the batch: behind a failed chunk, or put off to the next transaction. */
  readonly notRun: ReadonlyArray<Prepared>
}

/** The context of the runs of a batch. */
export interface Setting {
  /** The claim of the chunks; it records runs that hang. */
  readonly held: Held
  /** Records each run that succeeded. */
  readonly pulse: Pulse
  readonly rule: Rule
  /** How long one run may take. */
  readonly timeout: Duration.Duration
}

/** The setting of a handler's runs in the transaction. */
export type SettingOf = (handler: Handler) => Setting

/** A batch in its transaction. */
export interface BatchRun extends Setting {
  readonly handler: Handler
  readonly batch: ReadonlyArray<Prepared>
  readonly transaction: Transaction
  readonly isTransient: (error: unknown) => boolean
  readonly supervisor: Supervisor.Supervisor
}

/** Failed chunks with their causes. */
export type Failures = Map<Prepared, Cause.Cause<unknown>>

/** A way to run a batch. It fails when the whole batch must be rolled back. */
export type Runs = (run: BatchRun) => Effect.Effect<Committed, BatchFailed | BatchSuffered | NotShared>

/** The time limit of one run of a handler. */
export const timeoutOf = ({ options: { timeout } }: Handler, byDefault: Duration.Duration): Duration.Duration =>
  timeout === undefined ? byDefault : Duration.fromInputUnsafe(timeout)

/** The ledger row for a chunk. */
export const toPersisted = ({ chunk, handler }: Prepared, objects: ReadonlyArray<DomainObject>): Persisted => ({
  chunk,
  handler: handler.name,
  handlerVersion: handler.options.version ?? 1,
  objects
})

/** Records that the run of some chunks hangs: they are given back when it ends. */
export const hang = ({ held }: Setting, members: ReadonlyArray<Prepared>, ended: Effect.Effect<unknown>) =>
  held.hang(members.map(({ chunk }) => chunk), ended)

/** A cause that can be read. Some errors throw when they are read: a getter, a revoked proxy. */
export const readable = (cause: Cause.Cause<unknown>): Cause.Cause<unknown> => {
  try {
    Cause.pretty(cause)
    return cause
  } catch {
    return Cause.die(new Error("the handler failed with an error that cannot be read"))
  }
}

/** Whether a handler's error contains a transient error of the database. Its fields may throw when they are read. */
const containsTransient = (error: unknown, isTransient: BatchRun["isTransient"]): boolean => {
  try {
    return isTransient(error)
  } catch {
    return false
  }
}

const transientError = (
  cause: Cause.Cause<unknown>,
  isTransient: BatchRun["isTransient"]
): ChunkStoreError | undefined => {
  for (const reason of cause.reasons) {
    const error = reason._tag === "Fail" ? reason.error : reason._tag === "Die" ? reason.defect : undefined
    if (error !== undefined && containsTransient(error, isTransient)) {
      return new ChunkStoreError({
        operation: "persist",
        transient: true,
        reason: "the database failed a handler",
        cause: error
      })
    }
  }
  return undefined
}

/**
 * Whether the transaction can still commit after a run failed. Fails with `BatchSuffered` when a transient error of the
 * database broke the transaction. If the transaction is sound, such an error came from another database or from the
 * handler itself, and does not concern this database.
 */
export const soundAfter = Effect.fnUntraced(function*(
  { isTransient, transaction }: BatchRun,
  cause: Cause.Cause<unknown>,
  one: Prepared | undefined
) {
  const isSound = yield* Effect.mapError(
    transaction.isSound,
    (error) => new BatchSuffered({ error, survived: false, one })
  )
  const error = isSound ? undefined : transientError(cause, isTransient)
  if (error !== undefined) return yield* new BatchSuffered({ error, survived: true, one })
  return isSound
})

/** The result of a run: its objects, or why it failed. */
type Result<A> = { readonly _tag: "Done"; readonly value: A } | {
  readonly _tag: "Failed"
  readonly cause: Cause.Cause<unknown>
  /** Whether it had sent anything to the database, or may have. */
  readonly sent: boolean
  /**
   * Whether it was abandoned because it, or a statement that it has sent, could not be interrupted; then the transaction may
   * be lost.
   */
  readonly isCutOff: boolean
}

/** One chunk's run: the objects that its handler returned. */
export const runOf = (handler: Handler, one: Prepared): Effect.Effect<ReadonlyArray<DomainObject>, unknown> => {
  const persist = handler.run._tag === "One" ? handler.run.persist : () => Effect.void
  const run = Effect.flatMap(one.input, (input) => runHandler(() => persist(input)))
  return Effect.flatMap(traced(one, run), (created) => {
    const objects = objectsOf(created)
    return objects instanceof Error ? Effect.die(objects) : Effect.succeed(objects)
  })
}

/** Executes one run under its time limit, and watches the statements it sends. */
export const carryOut = Effect.fnUntraced(function*<A>(
  run: BatchRun,
  members: ReadonlyArray<Prepared>,
  work: Effect.Effect<A, unknown>
) {
  const { rule, supervisor, timeout, transaction } = run
  const watch = transaction.watch(rule)
  // code of an abandoned run must no longer reach the transaction
  const cutOff = Effect.suspend(() => {
    watch.end()
    return transaction.abandon
  })
  const ended = yield* supervisor.run(
    watch.of(Effect.provideService(work, RunningChunks, members.map(({ chunk }) => chunk.key))),
    (ended) => Effect.andThen(cutOff, hang(run, members, ended))
  )
  const hasNoAnswer = ended._tag === "Hangs" && watch.busy === true
  const isCutOff = ended._tag === "Hangs" || (watch.busy === true && !isSuccess(ended))
  if (isCutOff) yield* cutOff
  if (hasNoAnswer) yield* failSilent(transaction, members.length === 1 ? members[0] : undefined)
  watch.end()
  const { refusal } = watch
  if (refusal !== undefined && refusal.reason !== "control") {
    return yield* new NotShared({ one: members[0]!, refusal })
  }
  return toResult(watch, ended, timeout, isCutOff)
})

/** Fails with `BatchSuffered` if the connection of a transaction is silent: no chunk is charged for what a network does. */
export const failSilent = Effect.fnUntraced(function*(transaction: Transaction, one: Prepared | undefined) {
  const suffered = (error: ChunkStoreError) => new BatchSuffered({ error, survived: false, one })
  if (yield* Effect.mapError(transaction.isSilent, suffered)) {
    const reason = "the connection of a handler's transaction is silent: a statement has no answer"
    return yield* suffered(new ChunkStoreError({ operation: "persist", transient: true, reason }))
  }
})

const isSuccess = (ended: Supervisor.Ended<unknown, unknown>): boolean =>
  ended._tag === "Ended" && Exit.isSuccess(ended.exit)

const toResult = <A>(
  { refusal, sent }: Watch,
  ended: Supervisor.Ended<A, unknown>,
  timeout: Duration.Duration,
  isCutOff: boolean
): Result<A> => {
  if (refusal !== undefined) {
    const defect = handlerDefect(
      `began or ended a transaction: ${refusal.statement}. Its transaction is Sluice's: use sql.withTransaction for a savepoint`
    )
    return { _tag: "Failed", cause: Cause.die(defect), sent, isCutOff }
  }
  if (ended._tag !== "Ended") {
    const error = new HandlerTimeout({ after: timeout, hangs: ended._tag === "Hangs" })
    return { _tag: "Failed", cause: Cause.fail(error), sent, isCutOff }
  }
  return Exit.isSuccess(ended.exit)
    ? { _tag: "Done", value: ended.exit.value }
    : { _tag: "Failed", cause: readable(ended.exit.cause), sent, isCutOff }
}
