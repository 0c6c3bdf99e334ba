/**
 * How a command ends that is told to stop. One that runs until then has ended well. One that would have ended by itself
 * has not: it says how far it came, and its status is that of the signal.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

const statuses = { SIGINT: 130, SIGTERM: 143 } as const

let received: keyof typeof statuses | undefined
let endless = false

/** A second signal does not wait for the grace period: what is not committed is given up, and nothing is lost by that. */
export const listen = (): void => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (received !== undefined) process.exit(statuses[signal])
      received = signal
    })
  }
}

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
  if (Exit.isFailure(exit) && !endless) return statuses[received ?? "SIGINT"]
  return typeof process.exitCode === "number" ? process.exitCode : 0
}
