/**
 * The demo: records calls, drains them into the chat laboratory's tables, and prints what became of them.
 *
 *     npm run demo
 *     npm run demo -- --input calls.jsonl --json --store postgres --url postgres://… --workers 8
 *
 * Without `--input` it takes its own sample calls and keeps its data in `.sluice/demo`. A second run persists nothing twice
 * and says so. Delete the folder to start over. The exit status is 1 if a line was refused, 2 if a flag is wrong.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { CallLines, CallRecorder, DomainEvents, HandlerRegistry, Settings } from "effect-sluice"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import { Tutor, TutorHandlers } from "./assessment.ts"
import { census } from "./demo/census.ts"
import { type Flags, flags, placeOf } from "./demo/flags.ts"
import * as job from "./demo/job.ts"
import * as mistakes from "./demo/mistakes.ts"
import * as places from "./demo/places.ts"
import { report } from "./demo/report.ts"
import { sampleLines } from "./demo/samples.ts"
import * as watch from "./demo/watch.ts"
import { ChatlabHandlers } from "./handlers.ts"
import { MediaSubscriber } from "./Media.ts"
import { Chatlab } from "./outputs.ts"

// short: a run after a killed one then gets its chunks soon
const lease = Duration.seconds(10)

/** The application: the handlers, the services and the place of the data. */
const application = (place: places.Place) =>
  Layer.mergeAll(CallRecorder.layer, HandlerRegistry.layer(Chatlab, Tutor), MediaSubscriber).pipe(
    // programs, and a declaration
    Layer.provide([ChatlabHandlers, TutorHandlers]),
    Layer.provideMerge(DomainEvents.layer),
    Layer.provideMerge(places.layer(place)),
    Layer.provideMerge(Settings.layer({ lease }))
  )

/** Records the calls, drains them, and prints what became of them. */
const run = Effect.fnUntraced(function*({ input, json, workers }: Flags) {
  const created = yield* watch.created

  const recorded = watch.progress("calls recorded")
  const recording = yield* CallLines.record(
    Option.isSome(input) ? CallLines.fromFile(input.value) : CallLines.fromLines(sampleLines),
    {
      // a refused line of the samples is expected
      refused: ({ line, reason }) => Option.isSome(input) ? Console.error(`line ${line}: ${reason}`) : Effect.void,
      progress: ({ calls }) => recorded.at(calls.size)
    }
  )
  yield* recorded.end(recording.calls.size)

  const persisting = watch.progress("chunks persisted")
  const persisted = yield* job.drain({ workers, patience: lease, progress: persisting.at })
  yield* persisting.end(persisted)
  yield* watch.imagesAttached

  const counts = yield* census(recording)
  yield* Console.log(json ? JSON.stringify(counts) : yield* report({ recording, persisted, created, counts }))
  // not an error: the rest is done. `process.exit` would cut off output that is not flushed yet.
  if (Option.isSome(input) && counts.refused > 0) process.exitCode = 1
}, Effect.scoped)

/** The samples include a parked and a dead chunk on purpose. The report names them, so the log need not. */
const quietly = <A, E, R>(show: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    References.MinimumLogLevel,
    (level) => Effect.provideService(show, References.MinimumLogLevel, level === "Info" ? "Error" : level)
  )

/** One sentence about an error of the database, the file or a setting. */
const explain = (error: Error): string => {
  const cause = "reason" in error && typeof error.reason === "object" ? error.reason : error
  const detail = cause !== null && "cause" in cause && cause.cause instanceof Error ? `: ${cause.cause.message}` : ""
  return `${error.message}${detail}`
}

const demo = Command.make(
  "demo",
  flags,
  Effect.fnUntraced(function*(given) {
    const place = yield* placeOf(given)
    yield* (Option.isSome(given.input) ? run(given) : quietly(run(given))).pipe(
      Effect.provide(application(place)),
      Effect.mapError((error) => new mistakes.DemoFailed({ reason: explain(error) }))
    )
    if (place._tag === "Embedded" && place.folder !== undefined && !given.json) {
      yield* Console.log(`Kept in ${place.folder}: run again, and nothing is persisted twice.`)
    }
  })
).pipe(Command.withDescription("Records calls, drains them into tables, and shows what became of them"))

demo.pipe(
  Command.run({ version: "0.1.0" }),
  Effect.provide(mistakes.layer),
  Effect.provide(NodeServices.layer),
  // stdout holds only the answer
  Effect.provideService(Logger.LogToStderr, true),
  NodeRuntime.runMain({ teardown: mistakes.teardown })
)
