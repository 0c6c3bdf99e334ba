/**
 * How a command ends that is told to stop. One that runs until then has ended well. One that would have ended by itself
 * has not: it says how far it came, and its status is that of the signal.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Shutdown from "../Shutdown.ts"
import * as Terminal from "./Terminal.ts"

let listening: Shutdown.Listening | undefined
let endless = false
let limited = false

/** How long a command may take to end, unless it said how long. */
const soon = Duration.seconds(5)

/**
 * Listens for the signals: a second one does not wait for the grace period. What cannot be interrupted, such as a database
 * that does not answer, does not keep the command from ending.
 */
export const listen = (): void => {
  listening = Shutdown.listen()
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      setTimeout(() => {
        if (limited) return
        Terminal.write("told to stop, and something does not end: it is given up")
        process.exit(endless ? 0 : Shutdown.statuses[signal])
      }, Duration.toMillis(soon)).unref()
    })
  }
}

/** The signal that told it to stop. */
export const received = (): Shutdown.Signal | undefined => listening?.received()

/** How long what runs may take to finish once it is told to stop. */
export const limit = (gracePeriod: Duration.Duration): void => {
  if (received() !== undefined) return
  limited = true
  listening?.limit(gracePeriod)
}

/** Runs until it is told to stop: then that is how it ends well. */
export const untilStopped = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    endless = true
    return effect
  })

/** Whether it runs until it is told to stop. */
export const isEndless = (): boolean => endless

/** The status a command ends with. */
export const statusOf = (exit: Exit.Exit<unknown, unknown>): number => {
  const isStopped = Exit.isFailure(exit) && (
    // what was interrupted may have failed of that as well
    received() === undefined ? Cause.hasInterruptsOnly(exit.cause) : Cause.hasInterrupts(exit.cause)
  )
  if (Exit.isFailure(exit) && !isStopped) {
    return typeof process.exitCode === "number" && process.exitCode > 0 ? process.exitCode : 1
  }
  if (isStopped && !endless) return Shutdown.statuses[received() ?? "SIGINT"]
  return typeof process.exitCode === "number" ? process.exitCode : 0
}
