/**
 * How a program of workers ends that is told to: the first SIGINT or SIGTERM lets it end by itself, a second one ends it at
 * once, and so does the end of its patience. What is not committed then is given up, and nothing is lost by that.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Runtime from "effect/Runtime"
import * as Settings from "./Settings.ts"

/** The signals that tell a program to end. */
export type Signal = "SIGINT" | "SIGTERM"

/** The status of a program that a signal has ended. */
export const statuses: { readonly [signal in Signal]: number } = { SIGINT: 130, SIGTERM: 143 }

/** What is heard. */
export interface Listening {
  /** The signal that told the program to end, if one did. */
  readonly received: () => Signal | undefined
  /**
   * Running handlers have so long to finish after the first signal, and the rest a moment more to say goodbye. Then
   * something hangs, as a database that does not answer, and the program ends all the same. Without, there is no limit.
   */
  readonly limit: (gracePeriod: Duration.Duration) => void
}

/** To give back what is held, and to close connections. */
const farewell = Duration.seconds(10)

/** Listens from now on. The first signal is left to whoever runs the program, as `NodeRuntime.runMain`. */
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
 * Options of `NodeRuntime.runMain` for a program that runs until it is told to stop: that is how it ends well, with 0.
 * `gracePeriod` is that of its workers when it is set in code; else `SLUICE_GRACE_PERIOD` is read.
 *
 * ```ts
 * NodeRuntime.runMain(Layer.launch(program), Shutdown.bySignals())
 * ```
 */
export const bySignals = (
  options: { readonly gracePeriod?: Duration.Input } = {}
): { readonly teardown: Runtime.Teardown } => {
  const given = options.gracePeriod === undefined ? undefined : Duration.fromInputUnsafe(options.gracePeriod)
  // a setting that is wrong stops the program by itself
  const settings = Option.getOrUndefined(Effect.runSync(Effect.option(Settings.load)))
  const limit = given ?? settings?.gracePeriod
  const listening = listen()
  if (limit !== undefined) listening.limit(limit)
  return {
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
  }
}
