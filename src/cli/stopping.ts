/**
 * How a command ends when a signal stops it. A command that runs until it is stopped ends with status 0. Any other command
 * was interrupted: it reports how far it came, and exits with the status of the signal.
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

/** How long a command may take to end if it set no limit. */
const soon = Duration.seconds(5)

/**
 * Listens for the signals. A second signal skips the grace period. Work that cannot be interrupted, such as a query that the
 * database does not answer, does not keep the command from ending.
 */
export const listen = (): void => {
  listening = Shutdown.listen()
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      setTimeout(() => {
        if (limited) return
        Terminal.write("stopped, although something did not end within the grace period")
        process.exit(endless ? 0 : Shutdown.statuses[signal])
      }, Duration.toMillis(soon)).unref()
    })
  }
}

/**
 * A terminal that is closed stops the command like SIGTERM: else the chunks under way would count as those of a crash. It
 * may arrive twice, from the shell and from the system, and counts once: a second SIGTERM would end the process at once.
 */
export const hearHangup = (): void => {
  let isHeard = false
  process.on("SIGHUP", () => {
    if (!isHeard) process.emit("SIGTERM", "SIGTERM")
    isHeard = true
  })
}

/** The signal that told the command to stop, or undefined. */
export const received = (): Shutdown.Signal | undefined => listening?.received()

/** Sets how long running work may take to finish after the command is told to stop. */
export const limit = (gracePeriod: Duration.Duration): void => {
  if (received() !== undefined) return
  limited = true
  listening?.limit(gracePeriod)
}

/** Runs an effect that only a signal ends: the command then exits with status 0. */
export const untilStopped = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    endless = true
    return effect
  })

/** Whether the command runs until it is told to stop. */
export const isEndless = (): boolean => endless

/** The status a command ends with. */
export const statusOf = (exit: Exit.Exit<unknown, unknown>): number => {
  const isStopped = Exit.isFailure(exit) && (
    // interrupted work may have failed because of the interruption
    received() === undefined ? Cause.hasInterruptsOnly(exit.cause) : Cause.hasInterrupts(exit.cause)
  )
  if (Exit.isFailure(exit) && !isStopped) {
    return typeof process.exitCode === "number" && process.exitCode > 0 ? process.exitCode : 1
  }
  if (isStopped && !endless) return Shutdown.statuses[received() ?? "SIGINT"]
  return typeof process.exitCode === "number" ? process.exitCode : 0
}
