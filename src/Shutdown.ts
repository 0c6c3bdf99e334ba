/**
 * How a program of workers ends that is told to stop: the first SIGINT or SIGTERM lets it end by itself, a second one ends it
 * at once, and so does the end of its patience. What is not committed then is given up, and nothing is lost by that.
 *
 * ```ts
 * const program = Layer.mergeAll(DrainWorker.layer(), Shutdown.layer).pipe(...)
 *
 * NodeRuntime.runMain(Layer.launch(program), { teardown: Shutdown.teardown })
 * ```
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Runtime from "effect/Runtime"
import * as Settings from "./Settings.ts"

/** The signals that tell a program to end. */
export type Signal = "SIGINT" | "SIGTERM"

/** The exit status of a program that a signal has ended. */
export const statuses: { readonly [signal in Signal]: number } = { SIGINT: 130, SIGTERM: 143 }

/** @internal What was heard, and how long to wait. */
export interface Listening {
  /** The signal that told the program to end, if one did. */
  readonly received: () => Signal | undefined
  /** Running handlers have so long to finish after the first signal. Without, there is no limit. */
  readonly limit: (gracePeriod: Duration.Duration) => void
}

/** After the grace period: to give back what is held, and to close connections. */
const farewell = Duration.seconds(10)

/** @internal Listens from now on. The first signal is left to whoever runs the program, as `NodeRuntime.runMain`. */
export const listen = (): Listening => {
  let received: Signal | undefined
  let patience: Duration.Duration | undefined
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (received !== undefined) process.exit(statuses[signal])
      received = signal
      if (patience === undefined) return
      setTimeout(() => process.exit(statuses[signal]), Duration.toMillis(Duration.sum(patience, farewell))).unref()
    })
  }
  return {
    received: () => received,
    limit: (gracePeriod) => {
      patience = gracePeriod
    }
  }
}

/**
 * Ends the process at the second signal, and at the latest `gracePeriod` and ten seconds after the first: a database that
 * does not answer, or a handler that cannot be interrupted, does not keep the program. It listens from the moment it is
 * built to the end of the process.
 */
export const layer: Layer.Layer<never, never, Settings.Settings> = Layer.effectDiscard(
  Effect.map(Settings.Settings, ({ gracePeriod }) => listen().limit(gracePeriod))
)

/** For `NodeRuntime.runMain`: a program that runs until it is told to stop ends well by that, with status 0. */
export const teardown: Runtime.Teardown = (exit, onExit) =>
  onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
