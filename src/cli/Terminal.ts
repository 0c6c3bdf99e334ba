/**
 * Standard error, where a person may be looking: a bar that is drawn over itself, and lines that go above it. Where nobody
 * looks there is no bar, and every line is a line.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { Console as NodeConsole } from "node:console"
import { escapeProse } from "../internal/escape.ts"

/** Whether a person looks. */
export const isWatched = (): boolean => process.stderr.isTTY === true

const width = 79
// one terminal for the process, and so one bar
let drawn = false

/** Draws the bar anew. */
export const bar = (done: number, text: string): Effect.Effect<void> =>
  Effect.sync(() => {
    drawn = true
    const filled = "#".repeat(Math.round(20 * Math.min(1, Math.max(0, done)))).padEnd(20, ".")
    process.stderr.write(`\r\u001b[K${`[${filled}] ${text}`.slice(0, width)}`)
  })

const wipe = () => {
  if (drawn) process.stderr.write("\r\u001b[K")
  drawn = false
}

/** The bar is done with. */
export const clear: Effect.Effect<void> = Effect.sync(wipe)

/** Writes one line at once, whatever stands in it: for ends of the process that leave no time. */
export const write = (text: string): void => {
  wipe()
  process.stderr.write(`${escapeProse(text)}\n`)
}

/** A line for a person; the bar comes again below it. */
export const say = (text: string): Effect.Effect<void> => Effect.sync(() => write(text))

/** The log, a line each. */
export const logger: Layer.Layer<never> = Logger.layer([Logger.map(Logger.formatLogFmt, write)])

/**
 * The log, and the console of the command. What handlers and their packages print goes to stderr: stdout is the answer's,
 * and with `--json` one document.
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
