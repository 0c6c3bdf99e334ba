/**
 * Repairs answers that a handler rejected. Such an answer is paid for, and its chunk is a dead letter. A repair asks for the
 * answer again, with the handler's message, and redrives the chunk with the new one.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Run } from "./CallAttempt.ts"
import { CallRefused } from "./CallRecorder.ts"
import { ChunkStore } from "./ChunkStore.ts"
import { DeadLetters, type Repair, type RepairEnd } from "./DeadLetters.ts"
import { callProblem, limitProblem } from "./internal/callProblem.ts"
import { describeCause } from "./internal/describe.ts"
import * as genAi from "./internal/genAi.ts"
import { outage } from "./internal/outage.ts"
import * as runNotes from "./internal/runNotes.ts"
import { mayBeOver } from "./internal/storeErrors.ts"
import { usageOf } from "./internal/usageOf.ts"
import type { ChunkKey, RecordedOutput } from "./ServiceCall.ts"
import * as Settings from "./Settings.ts"

/** An answer that a handler rejected: the call, the output, and the handler's reason. */
export interface Rejected extends Omit<Repair, "token"> {}

/** What a repair adds to the call: attempts and their usage. The call itself was counted when it was recorded. */
const added = ({ output }: Rejected, said: runNotes.Said) => ({
  attempts: said.attempts,
  usage: said.isSilent
    ? []
    : usageOf({ status: "succeeded", facts: said.facts, attempts: said.attempts, outputs: [output] })
      .map((entry) => ({ ...entry, calls: 0 }))
})

/** The call as it would be with the new answer. */
const withOutput = ({ call, output }: Rejected, { data, version }: Pick<RecordedOutput, "data" | "version">) => ({
  ...call,
  outputs: call.outputs.map((one) =>
    one.schema === output.schema && (one.part ?? "") === (output.part ?? "") ? { ...one, data, version } : one
  )
})

/**
 * Asks again for the answer of a rejected chunk: runs the service, then, in one commit, replaces the recorded answer with
 * its result and redrives the chunk at its old place in the order. Each answer that the service received is an attempt of
 * the same call, with its own facts; the call's facts stay those of its first answer. Returns whether the chunk was
 * redriven.
 *
 * False without asking: the chunk is not a rejected dead letter, `most` answers were asked for again already, another
 * process is repairing an answer of the call, or the call was erased or pruned. False after asking: meanwhile the letter was
 * discarded or redriven, or the call was erased.
 *
 * An answer that does not fit (`run.refused`, or the service fails after an answer) counts as well, so at most `most`
 * answers of a chunk are paid for again. A service that fails without an answer changes nothing. If the process dies while
 * it asks, the answer is lost, as in `CallRecorder.run`, and may be asked for again after `SLUICE_LEASE`. Once an answer is
 * recorded, it is never asked for again.
 *
 * It makes its own commits: in a caller's transaction it fails before the service runs. Needs the rights of an operator.
 *
 * ```ts
 * const key = { callId, schemaIdentity: PatientReply.identity, part: "" }
 * yield* RejectedAnswers.repair(key, { most: 2 }, ({ output, reason }, run) =>
 *   Effect.gen(function*() {
 *     const { text, usage } = yield* ask(`${prompt} Not ${JSON.stringify(output.data)}: ${reason}.`)
 *     yield* run.answered({ text, facts: { inputTokens: usage.input, outputTokens: usage.output } })
 *     return yield* decodeAndEncode(text)
 *   }))
 * ```
 */
export const repair = Effect.fn("RejectedAnswers.repair")(function*<E, R>(
  key: ChunkKey,
  options: { readonly most: number },
  service: (rejected: Rejected, run: Run) => Effect.Effect<Pick<RecordedOutput, "data" | "version">, E, R>
) {
  const store = yield* ChunkStore
  const letters = yield* DeadLetters
  const settings = yield* Settings.Settings
  const { lease } = settings
  const unlimited = limitProblem("most", options.most)
  if (unlimited !== undefined) return yield* new CallRefused({ callId: key.callId, ...unlimited })
  return yield* Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
    const begun = Option.getOrUndefined(yield* restore(letters.beginRepair(key, { most: options.most, lease })))
    if (begun === undefined) return false
    const { token, ...rejected } = begun
    const renewal = store.renewRun(key.callId, token, lease).pipe(
      Effect.ignoreCause({ log: "Warn" }),
      Effect.repeat(Schedule.spaced(Duration.times(lease, 1 / 3))),
      Effect.delay(Duration.times(lease, 1 / 3))
    )
    const notes = runNotes.make(undefined)
    const running = Effect.suspend(() => service(rejected, notes.run))
    const exit = yield* Effect.exit(restore(Effect.raceFirst(running, Effect.andThen(renewal, Effect.never))))
    const context = yield* Effect.context<never>()
    const end = (said: runNotes.Said, ended: Pick<RepairEnd, "output" | "refused">) => {
      genAi.count(said.facts, said.attempts, context)
      const adds = added(rejected, said)
      // a repair that no longer holds the call keeps only its answers: they are paid for
      const { attempts } = ended.output === undefined ? said : notes.late()
      const late = store.abandon(key.callId, token, { status: "failed", error: "", ...adds, attempts })
      return letters.endRepair(key, token, { ...adds, ...ended }).pipe(
        Effect.tap((redriven) => redriven || attempts.length === 0 ? Effect.void : late),
        Effect.retry({ while: mayBeOver, schedule: Schedule.upTo(outage, { duration: lease }) })
      )
    }
    /** The letter stays. An error of this write is only logged: the caller needs that of the service. */
    const endWithout = (said: runNotes.Said, error: string) =>
      Effect.ignoreCause(end(said, said.attempts.at(-1)?.outcome === "invalid" ? { refused: error } : {}), {
        log: "Warn"
      })
    if (Exit.isFailure(exit)) {
      const error = describeCause(exit.cause)
      yield* endWithout(Cause.hasInterruptsOnly(exit.cause) ? notes.interrupted() : notes.failed(error), error)
      return yield* Effect.failCause(exit.cause)
    }
    const { data, version } = exit.value
    const problem = callProblem(withOutput(rejected, { data, version }), settings)
    if (problem !== undefined) {
      const refused = new CallRefused({ callId: key.callId, ...problem })
      yield* endWithout(yield* notes.unstorable(refused.message, exit.value), refused.message)
      return yield* refused
    }
    return yield* end(notes.succeeded(), { output: { data, version } })
  }))
})
