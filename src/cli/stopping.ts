/**
 * How a command ends that is told to stop. One that runs until then has ended well. One that would have ended by itself
 * has not: it says how far it came, and its status is that of the signal.
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Shutdown from "../Shutdown.ts"

let listening: Shutdown.Listening | undefined
let endless = false

/** Listens for the signals: a second one does not wait for the grace period. */
export const listen = (): void => {
  listening = Shutdown.listen()
}

/** How long what runs may take to finish once it is told to stop. */
export const limit = (gracePeriod: Duration.Duration): void => listening?.limit(gracePeriod)

/** Runs until it is told to stop: then that is how it ends well. */
export const untilStopped = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    endless = true
    return effect
  })

/** The status a command ends with. */
export const statusOf = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
    return typeof process.exitCode === "number" && process.exitCode > 0 ? process.exitCode : 1
  }
  if (Exit.isFailure(exit) && !endless) return Shutdown.statuses[listening?.received() ?? "SIGINT"]
  return typeof process.exitCode === "number" ? process.exitCode : 0
}
