/**
 * The two phases of the demo: record the calls of a file, then let so many drains persist them.
 */
import { CallRecorder, Drain, type ServiceCall } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { CallLine } from "./readCalls.ts"

/** A line that was not recorded, and why. */
export interface Refusal {
  readonly line: number
  readonly reason: string
}

/** What recording came to. */
export interface Recording {
  /** The ids of the calls that are recorded now, each once. */
  readonly calls: ReadonlySet<string>
  /** Of the lines, those that were new. */
  readonly recorded: number
  /** Of the lines, those that were recorded before, the same. */
  readonly unchanged: number
  readonly refused: ReadonlyArray<Refusal>
}

/** How many calls are recorded in one commit. */
const together = 200

/** Records all calls of the lines. What cannot be recorded is told of at once and does not stop the rest. */
export const record = Effect.fnUntraced(function*<E, R>(
  lines: Stream.Stream<CallLine, E, R>,
  on: {
    readonly refused: (refusal: Refusal) => Effect.Effect<void>
    readonly progress: (calls: number) => Effect.Effect<void>
  }
) {
  const recorder = yield* CallRecorder
  const calls = new Set<string>()
  const refused: Array<Refusal> = []
  let recorded = 0
  let unchanged = 0

  const refuse = (line: number, reason: string) => {
    refused.push({ line, reason })
    return on.refused({ line, reason })
  }

  yield* Stream.runForEach(Stream.grouped(lines, together), Effect.fnUntraced(function*(group) {
    const good: Array<{ readonly line: number; readonly call: ServiceCall.ServiceCall }> = []
    for (const { call, number } of group) {
      if (Result.isSuccess(call)) good.push({ line: number, call: call.success })
      else yield* refuse(number, call.failure)
    }
    const outcomes = yield* recorder.recordMany(good.map(({ call }) => call))
    for (const [index, outcome] of outcomes.entries()) {
      const { call, line } = good[index]!
      if (Result.isFailure(outcome)) {
        yield* refuse(line, outcome.failure.message)
        continue
      }
      calls.add(call.callId)
      if (outcome.success === "recorded") recorded++
      else unchanged++
    }
    yield* on.progress(calls.size)
  }))
  return { calls, recorded, unchanged, refused } satisfies Recording
})

/**
 * Drains until nothing is due, by so many drains at once, each as if it were a process of its own. Tells after every
 * cycle how many chunks have been persisted so far, and gives back how many were in the end.
 */
export const drain = Effect.fnUntraced(function*(
  workers: number,
  progress: (persisted: number) => Effect.Effect<void>
) {
  let persisted = 0
  const worker = Effect.gen(function*() {
    const drain = yield* Drain
    while (true) {
      const report = yield* drain.cycle
      if (report.claimed === 0) return
      persisted += report.persisted + report.nothingToCreate
      yield* progress(persisted)
    }
  }).pipe(
    // fresh, or all of them would share one
    Effect.provide(Layer.fresh(Drain.layer))
  )
  yield* Effect.all(Array.from({ length: workers }, () => worker), { concurrency: "unbounded" })
  return persisted
})
