/**
 * Ends a program of workers on a signal: the first SIGINT or SIGTERM starts a graceful shutdown; a second one, or the
 * end of the time limit, ends the process immediately. Work that is not committed by then is abandoned, and nothing is
 * lost: it is claimed again.
 *
 * ```ts
 * const program = Layer.mergeAll(DrainWorker.layer(), Shutdown.layer).pipe(
 *   Layer.provide(Drain.layer),
 *   Layer.provide([registry, DomainEvents.layer]),
 *   Layer.provide(stores),
 *   Layer.provide(Settings.layer())
 * )
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
import { timerMillis } from "./internal/timer.ts"
import * as Settings from "./Settings.ts"

/** The signals that end a program. */
export type Signal = "SIGINT" | "SIGTERM"

/** The exit status of a program that a signal has ended. */
export const statuses: { readonly [signal in Signal]: number } = { SIGINT: 130, SIGTERM: 143 }

/** @internal The signal received, and the time limit. */
export interface Listening {
  /** The signal that ended the program, if there was one. */
  readonly received: () => Signal | undefined
  /** Sets how long running handlers may take to finish after the first signal. Without it there is no limit. */
  readonly limit: (gracePeriod: Duration.Duration) => void
}

/** The time after the grace period to give back claimed chunks and close connections. */
const farewell = Duration.seconds(10)

/** @internal Listens from now on. The first signal is left to the program's runner, like `NodeRuntime.runMain`. */
export const listen = (): Listening => {
  let received: Signal | undefined
  let grace: Duration.Duration | undefined
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (received !== undefined) process.exit(statuses[signal])
      received = signal
      if (grace === undefined) return
      setTimeout(() => process.exit(statuses[signal]), timerMillis(Duration.sum(grace, farewell))).unref()
    })
  }
  return {
    received: () => received,
    limit: (gracePeriod) => {
      grace = gracePeriod
    }
  }
}

/**
 * Ends the process at the second signal, and at the latest `gracePeriod` and ten seconds after the first: a database
 * that does not answer, or a handler that cannot be interrupted, must not keep the program alive. It listens from when
 * it is built to the end of the process.
 */
export const layer: Layer.Layer<never, never, Settings.Settings> = Layer.effectDiscard(
  Effect.map(Settings.Settings, ({ gracePeriod }) => listen().limit(gracePeriod))
)

/** For `NodeRuntime.runMain`: exits with status 0 when the program succeeds or is stopped by an interruption, else 1. */
export const teardown: Runtime.Teardown = (exit, onExit) =>
  onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
