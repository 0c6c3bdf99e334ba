/**
 * Writes to standard error: log lines, and on a terminal a progress bar below them that is redrawn in place.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { Console as NodeConsole } from "node:console"
import { escapeProse } from "../internal/escape.ts"

/** Whether a stream is a terminal that obeys escape sequences. */
export const isScreen = (stream: { readonly isTTY?: boolean }): boolean =>
  stream.isTTY === true && process.env["TERM"] !== "dumb"

/** Whether text on a stream may be coloured: also not where `NO_COLOR` is set. */
export const hasColors = (stream: { readonly isTTY?: boolean }): boolean =>
  isScreen(stream) && (process.env["NO_COLOR"] ?? "") === ""

/** Whether someone watches stderr, on a terminal on which a line can be redrawn. */
export const isWatched = (): boolean => isScreen(process.stderr)

/** The widest bar. One that fills its line would be wrapped, and not wiped. */
const widest = 79
const width = (): number => {
  const { columns } = process.stderr
  return columns > 0 ? Math.min(widest, columns - 1) : widest
}
// the process has one terminal, and so one bar
let drawn = false

/** Draws the bar over the previous one. `done` is the fraction from 0 to 1. */
export const bar = (done: number, text: string): Effect.Effect<void> =>
  Effect.sync(() => {
    drawn = true
    const filled = "#".repeat(Math.round(20 * Math.min(1, Math.max(0, done)))).padEnd(20, ".")
    process.stderr.write(`\r\u001b[K${`[${filled}] ${text}`.slice(0, width())}`)
  })

const wipe = () => {
  if (drawn) process.stderr.write("\r\u001b[K")
  drawn = false
}

/** Removes the bar. */
export const clear: Effect.Effect<void> = Effect.sync(wipe)

/** Writes one escaped line synchronously: for when the process is about to end. */
export const write = (text: string): void => {
  wipe()
  process.stderr.write(`${escapeProse(text)}\n`)
}

/** Writes one escaped line for a person. */
export const say = (text: string): Effect.Effect<void> => Effect.sync(() => write(text))

/** The logger: one line for each message. */
export const logger: Layer.Layer<never> = Logger.layer([Logger.map(Logger.formatLogFmt, write)])

/**
 * The logger and the console of the command. What handlers and their packages print goes to stderr: stdout holds only the
 * command's answer, with `--json` one document.
 */
export const layer: Layer.Layer<never> = Layer.merge(
  logger,
  Layer.effect(
    Console.Console,
    Effect.sync(() => {
      const own = new NodeConsole(process.stdout, process.stderr)
      globalThis.console = new NodeConsole(process.stderr, process.stderr)
      return own
    })
  )
)
