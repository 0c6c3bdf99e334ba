/**
 * Phase 1: records a paid answer as soon as it exists, independently of the handlers. The call and its chunks are one
 * commit, inside the caller's own transaction when there is one.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type { FoundCall, Run } from "./CallAttempt.ts"
import type { CallFacts } from "./CallFacts.ts"
import {
  ChunkStore,
  type ChunkStoreError,
  type Recording,
  type RecordOutcome,
  type RefusedByStore
} from "./ChunkStore.ts"
import { CallConflict, CallErased, CallRefused, CallRunning, RunInTransaction } from "./internal/callErrors.ts"
import { keepJson } from "./internal/callJson.ts"
import * as storable from "./internal/callProblem.ts"
import { describeCause } from "./internal/describe.ts"
import { escape } from "./internal/escape.ts"
import * as genAi from "./internal/genAi.ts"
import type { Problem } from "./internal/jsonProblem.ts"
import { outage } from "./internal/outage.ts"
import { unreadable } from "./internal/readOnce.ts"
import type { Said } from "./internal/runNotes.ts"
import * as runNotes from "./internal/runNotes.ts"
import { soundCall } from "./internal/soundCall.ts"
import { mayBeOver } from "./internal/storeErrors.ts"
import { aTrace, traceOf, withSoundTrace } from "./internal/trace.ts"
import { usageOf } from "./internal/usageOf.ts"
import * as Metrics from "./Metrics.ts"
import type { CallSpec, RecordedOutput, ServiceCall, TraceContext } from "./ServiceCall.ts"
import * as Settings from "./Settings.ts"

export type { FoundCall, Run } from "./CallAttempt.ts"

export { CallConflict, CallErased, CallRefused, CallRunning, RunInTransaction } from "./internal/callErrors.ts"

/**
 * The request's trace: the parent of the recorder's own span. Undefined without a parent, and when the tracer's ids
 * cannot be stored: a bad trace must not lose an answer.
 */
const requestTrace = Effect.map(Effect.option(Effect.currentSpan), (own): TraceContext | undefined => {
  const parent = Option.flatMap(own, (span) => span.parent)
  if (Option.isNone(parent)) return undefined
  return traceOf(parent.value)
})

/**
 * Logs once per batch that calls have an invalid trace. They are recorded without it: a paid answer is not refused for
 * its trace.
 */
const tellOfTraces = (calls: ReadonlyArray<{ readonly call: CallSpec; readonly isDropped: boolean }>) => {
  const dropped = calls.filter(({ isDropped }) => isDropped)
  return dropped[0] === undefined
    ? Effect.void
    : Effect.logWarning(`calls are recorded without their trace, which is not ${aTrace}`).pipe(
      Effect.annotateLogs({ "sluice.call_id": escape(dropped[0].call.callId), "sluice.calls": dropped.length })
    )
}

/** Logs once per batch that calls were corrected to be recorded: bad details or facts must not cost the answer. */
const tellOfMended = (calls: ReadonlyArray<{ readonly call: CallSpec; readonly mended: ReadonlyArray<string> }>) => {
  const mended = calls.filter((one) => one.mended.length > 0)
  return mended[0] === undefined
    ? Effect.void
    : Effect.logWarning(`calls are recorded ${mended[0].mended.join(", and ")}`).pipe(
      Effect.annotateLogs({
        "sluice.call_id": escape(storable.callIdOf(mended[0].call)),
        "sluice.calls": mended.length
      })
    )
}

const refuse = (call: CallSpec, problem: Problem): CallRefused =>
  new CallRefused({ callId: storable.callIdOf(call), ...problem })

const refusedByStore = (call: CallSpec, { reason }: RefusedByStore): CallRefused =>
  refuse(call, { path: "call", reason: `is refused by the database: ${reason}` })

/** Makes a call's JSON, or says why it cannot: an accessor that could be read during the check may throw now. */
const keptProblem = (call: ServiceCall): Problem | undefined => {
  try {
    keepJson(call)
    return undefined
  } catch (error) {
    return unreadable(error)
  }
}

/** What recording a finished call adds: its facts count in the usage. */
const addedBy = ({ facts, outputs }: ServiceCall): Pick<Recording, "usage"> =>
  facts === undefined ? {} : { usage: usageOf({ status: "succeeded", facts, attempts: [], outputs }) }

const wordsOf = ({ dropped }: Said): ReadonlyArray<string> =>
  dropped.length === 0 ? [] : [`without facts that cannot be stored: ${dropped.join(", ")}`]

/** Adds the call's facts to the recorder's span. */
const annotated = (call: CallSpec, facts: CallFacts) =>
  Effect.annotateCurrentSpan(genAi.attributesOf(facts, call.correlationId))

/** The same of a run that has ended, and counts its answers. */
const tellOfRun = Effect.fnUntraced(function*(call: CallSpec, said: Said) {
  if (said.isSilent && call.facts === undefined) return
  yield* annotated(call, said.facts)
  genAi.count(said.facts, said.attempts, yield* Effect.context<never>())
})

/**
 * The outcome of recording a call. `"unchanged"`: the same call was already recorded. `"erased"`: a call with this id was
 * erased (`Erasure`), and is not recorded again.
 */
export type Recorded = "recorded" | "unchanged" | "erased"

/** The outcome of {@link CallRecorder} `run`. */
export interface RunResult {
  /** The call as recorded. If its service was not run again: without input and outputs once these are pruned. */
  readonly call: ServiceCall
  /** False when the call had succeeded before and its service was not run again. */
  readonly ran: boolean
}

/** A service that is run: an effect, or a function that gets a {@link Run} to report its answers to. */
export type Service<E, R> =
  | Effect.Effect<ReadonlyArray<RecordedOutput>, E, R>
  | ((run: Run) => Effect.Effect<ReadonlyArray<RecordedOutput>, E, R>)

/**
 * Records calls.
 *
 * ```ts
 * const recorder = yield* CallRecorder.CallRecorder
 * yield* recorder.record({
 *   callId,
 *   namespace: "chatlab",
 *   service: "services.chatlab.standardized_patient.generate-reply",
 *   context: { simulationId: simulation.id },
 *   outputs: [yield* PatientReply.encode(answer)]
 * })
 * ```
 */
export class CallRecorder extends Context.Service<CallRecorder, {
  /**
   * Records a finished call. Recording the same call again changes nothing and returns `"unchanged"`; other content
   * under the same id fails with {@link CallConflict}. A call that was erased is not recorded again and returns `"erased"`,
   * whatever its content. Times, priority, correlation id, details and trace do not count
   * as content: the first recorded values stay.
   */
  readonly record: (call: ServiceCall) => Effect.Effect<Recorded, CallRefused | CallConflict | ChunkStoreError>
  /**
   * Records many calls in one commit. Returns one result per call, in the given order: valid calls are recorded, each
   * invalid one has its error. A call that the database refuses (an encoding, a constraint of the application) is
   * invalid too, but for a single one within a transaction, which fails with it. Otherwise this fails only when the
   * database fails; then nothing was recorded.
   */
  readonly recordMany: (
    calls: ReadonlyArray<ServiceCall>
  ) => Effect.Effect<ReadonlyArray<Result.Result<Recorded, CallRefused | CallConflict>>, ChunkStoreError>
  /**
   * Runs a service and records the outcome: `running`, then `succeeded` with its outputs, or `failed` with its error
   * (this effect fails with the same error). A call that has succeeded is not run again; a call that failed, or whose
   * run died, is. While it runs, no other process runs it. A call that was erased is not run: it fails with
   * {@link CallErased}, also when it is erased while it runs. Fails with `CallConflict` when another call with this id is
   * running or has succeeded. If the call was recorded or erased while its service ran, the answers of the run are kept as
   * attempts, and counted.
   *
   * Everything that `record` would refuse about the call itself fails with `CallRefused` before the service runs; then
   * nothing was written. This includes the size: context, input, details and trace may hold `SLUICE_MAX_RESULT_BYTES`
   * less the room kept for the answer, 1 MiB (a quarter of a limit below 4 MiB). An answer that cannot be stored also
   * fails with `CallRefused`, and the call is recorded as invalid, or as failed if the answer is not even JSON. Changes
   * that the service makes to the call's objects while it runs are not recorded.
   *
   * It uses its own commits, so a paid answer is never rolled back: inside a transaction it fails with
   * {@link RunInTransaction} before the service runs.
   */
  readonly run: <E, R>(
    call: CallSpec,
    service: Service<E, R>
  ) => Effect.Effect<
    RunResult,
    E | CallRefused | CallConflict | CallErased | CallRunning | RunInTransaction | ChunkStoreError,
    R
  >
  /** A call as it is recorded, with its status and all its attempts. */
  readonly find: (callId: string) => Effect.Effect<Option.Option<FoundCall>, ChunkStoreError>
}>()("effect-sluice/CallRecorder") {}

/** The recorder, over any store. */
export const layer: Layer.Layer<CallRecorder, never, ChunkStore | Settings.Settings> = Layer.effect(
  CallRecorder,
  Effect.gen(function*() {
    const store = yield* ChunkStore
    const settings = yield* Settings.Settings

    const verdict = (
      call: ServiceCall,
      outcome: RecordOutcome
    ): Result.Result<Recorded, CallRefused | CallConflict> =>
      typeof outcome === "object"
        ? Result.fail(refusedByStore(call, outcome))
        : outcome === "conflict"
        ? Result.fail(new CallConflict({ callId: call.callId }))
        : Result.succeed(outcome)

    const recordAll = Effect.fnUntraced(function*(
      calls: ReadonlyArray<ServiceCall>,
      added: (call: ServiceCall) => Pick<Recording, "attempts" | "usage"> = addedBy
    ) {
      const trace = yield* requestTrace
      const checked = calls.map((given) => {
        const { mended, ...one } = soundCall(given, (call) => storable.callProblem(call, settings))
        if (one.problem !== undefined) return { ...one, mended, isDropped: false }
        const { call, isDropped } = withSoundTrace(one.call)
        const traced = trace === undefined || call.trace !== undefined ? call : { ...call, trace }
        const recording: Recording = { ...traced, ...added(call) }
        return { call, recording, mended, isDropped, problem: keptProblem(recording) }
      })
      const sound = checked.filter(({ problem }) => problem === undefined)
      yield* tellOfTraces(sound)
      yield* tellOfMended(sound)
      const good = sound.flatMap(({ recording }) => recording === undefined ? [] : [recording])
      const outcomes = (yield* store.record(good)).values()
      const context = yield* Effect.context<never>()
      return checked.map(({ call, problem }) => {
        const result = problem === undefined
          ? verdict(call, outcomes.next().value ?? "conflict")
          : Result.fail(refuse(call, problem))
        const outcome = Result.match(result, {
          onSuccess: (recorded) => recorded,
          onFailure: (error) => error._tag === "CallConflict" ? "conflict" : "refused"
        })
        Metrics.countCall(problem === undefined ? call.namespace : "", outcome, context)
        // the attempts of a run are counted at its end, successful or not
        if (outcome === "recorded" && added === addedBy && call.facts !== undefined) {
          genAi.count(call.facts, [], context)
        }
        return { call, result }
      })
    })
    const recordMany = Effect.fn("CallRecorder.recordMany")((calls: ReadonlyArray<ServiceCall>) =>
      Effect.map(recordAll(calls), (all) => all.map(({ result }) => result))
    )

    const record = Effect.fn("CallRecorder.record")(function*(given: ServiceCall) {
      const [recorded] = yield* recordAll([given])
      const { call, result } = recorded!
      // what is refused may be no call at all
      if (Result.isSuccess(result) && call.facts !== undefined) yield* annotated(call, call.facts)
      return yield* Effect.fromResult(result)
    })

    /** How long recording a paid answer is retried. */
    const duringOutage = {
      while: (error: CallRefused | CallConflict | ChunkStoreError) =>
        error._tag === "ChunkStoreError" && mayBeOver(error),
      schedule: Schedule.upTo(outage, { duration: settings.lease })
    }

    /**
     * Records the answer of a run, with what the run reported. If that cannot be written, for example because the role has no
     * rights on its tables, the answer is recorded without it.
     */
    const recordRun = Effect.fn("CallRecorder.record")(function*(call: ServiceCall, { attempts, facts }: Said) {
      // only of what can be recorded: an untyped service may answer anything
      const added = ({ outputs }: ServiceCall) => ({
        attempts,
        usage: usageOf({ status: "succeeded", facts, attempts, outputs })
      })
      const [recorded] = yield* Effect.catchIf(recordAll([call], added), (error) => !mayBeOver(error), (error) => {
        const { facts: _, ...bare } = call
        return recordAll([bare], () => ({})).pipe(
          Effect.mapError(() => error),
          Effect.tap(Effect.logWarning(`a call is recorded without its facts and attempts: ${error.message}`))
        )
      })
      return yield* Effect.fromResult(recorded!.result)
    })

    /**
     * Records that a run has ended without outputs, or with outputs that came too late (`succeeded`). Its answers are paid
     * for: if there are any, it is tried for as long as the answer of a successful run. The caller needs the run's error
     * more than one of this.
     */
    const abandon = (
      spec: CallSpec,
      token: string,
      error: string,
      said: Said,
      ended: "succeeded" | "failed" | "invalid" = said.attempts.at(-1)?.outcome === "invalid" ? "invalid" : "failed"
    ) => {
      const { attempts, facts } = said
      const status = ended === "succeeded" ? "failed" : ended
      const usage = usageOf({ status: ended, facts, attempts, outputs: [] })
      const end = (attempts: Said["attempts"]) =>
        store.abandon(spec.callId, token, { status, error, facts, attempts, usage })
      return Effect.ignoreCause(
        Effect.andThen(
          tellOfMended([{ call: spec, mended: wordsOf(said) }]),
          Effect.catchIf(
            attempts.length === 0 ? end(attempts) : Effect.retry(end(attempts), duringOutage),
            // a database that refuses a text keeps the rest
            (refused) => !mayBeOver(refused),
            () => end([])
          )
        ),
        { log: "Warn" }
      )
    }

    const run = Effect.fn("CallRecorder.run")(function*<E, R>(asked: CallSpec, service: Service<E, R>) {
      const checked = soundCall(asked, (one) => storable.specProblem(one, settings))
      if (checked.problem !== undefined) return yield* refuse(asked, checked.problem)
      const { call, isDropped } = withSoundTrace(storable.asAsked(checked.call))
      yield* tellOfTraces([{ call, isDropped }])
      yield* tellOfMended([checked])
      return yield* Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
        const begun = yield* restore(store.begin(call, settings.lease))
        if (begun._tag === "Running") return yield* new CallRunning({ callId: call.callId, until: begun.until })
        if (begun._tag === "Succeeded") return { call: begun.call, ran: false }
        if (begun._tag === "Conflict") return yield* new CallConflict({ callId: call.callId })
        if (begun._tag === "Erased") return yield* new CallErased({ callId: call.callId })
        if (begun._tag === "Refused") return yield* refusedByStore(call, begun)
        if (begun._tag === "InTransaction") return yield* new RunInTransaction({ callId: call.callId })
        const startedAt = yield* DateTime.now
        const renewal = store.renewRun(call.callId, begun.token, settings.lease).pipe(
          Effect.ignoreCause({ log: "Warn" }),
          Effect.repeat(Schedule.spaced(Duration.times(settings.lease, 1 / 3))),
          Effect.delay(Duration.times(settings.lease, 1 / 3))
        )
        const notes = runNotes.make(call.facts)
        const running = Effect.isEffect(service) ? service : Effect.suspend(() => service(notes.run))
        const exit = yield* Effect.exit(restore(Effect.raceFirst(running, Effect.andThen(renewal, Effect.never))))
        if (Exit.isFailure(exit)) {
          const isInterrupted = Cause.hasInterruptsOnly(exit.cause)
          const error = describeCause(exit.cause)
          const said = isInterrupted ? notes.interrupted() : notes.failed(error)
          yield* tellOfRun(call, said)
          // if the database is unreachable the run ends with its lease; the caller needs the service's error
          yield* isInterrupted && said.isSilent
            ? Effect.ignoreCause(store.abandon(call.callId, begun.token, undefined), { log: "Warn" })
            : abandon(call, begun.token, error, said)
          return yield* Effect.failCause(exit.cause)
        }
        // From here the answer is paid for. It is recorded even when this fiber is interrupted, and even when the run's
        // lease was lost, unless another answer was recorded first: then it is kept as an attempt. If the database is
        // unreachable, recording is retried for the length of a lease. In the first two thirds of it no other process takes
        // over the run.
        const said = notes.succeeded()
        yield* tellOfRun(call, said)
        const finished: ServiceCall = {
          startedAt,
          ...call,
          ...(said.isSilent ? {} : { facts: said.facts }),
          finishedAt: yield* DateTime.now,
          outputs: exit.value
        }
        yield* tellOfMended([{ call, mended: wordsOf(said) }])
        const tooLate = said.attempts.length === 0
          ? Effect.void
          : abandon(call, begun.token, "its answer came too late", { ...notes.late(), dropped: [] }, "succeeded")
        const recorded = yield* recordRun(finished, said).pipe(
          Effect.retry(duringOutage),
          Effect.tapError((error) =>
            error._tag === "CallRefused"
              ? Effect.flatMap(
                notes.unstorable(error.message, exit.value),
                (kept) => abandon(call, begun.token, error.message, kept)
              )
              : error._tag === "CallConflict"
              ? tooLate
              : Effect.void
          )
        )
        // also after a commit whose answer was lost: then its attempts are there, and are not added again
        if (recorded !== "recorded") yield* tooLate
        if (recorded === "erased") return yield* new CallErased({ callId: call.callId })
        return { call: finished, ran: true }
      }))
    })

    return CallRecorder.of({ record, recordMany, run, find: (callId) => store.find(callId) })
  })
)
