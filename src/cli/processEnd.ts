/**
 * Ends of the process that the command did not choose: a handler's code calls `process.exit`, an error that nobody caught,
 * an answer that cannot be written. Each is told of in a sentence, and none looks like a success.
 */
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as Shutdown from "../Shutdown.ts"
import type { Failure } from "./Failed.ts"
import * as loading from "./loading.ts"
import * as print from "./print.ts"
import * as stopping from "./stopping.ts"
import * as Terminal from "./Terminal.ts"
import * as wantsJson from "./wantsJson.ts"

let isExpected = false

/** The command has ended: so may the process. */
export const expect = (): void => {
  isExpected = true
}

const ours = new URL(".", import.meta.url).href

/** Where in a stack the code of others is, as a file and a line. */
const placeIn = (stack: string): string | undefined => {
  const places = [...stack.matchAll(/(file:\/\/[^\s)]+?):(\d+):\d+/g)].filter(([place]) => !place.startsWith(ours))
  const [, file, line] = places.find(([place]) => !place.includes("/node_modules/")) ?? places[0] ?? []
  return file === undefined ? undefined : `${path.relative(".", fileURLToPath(file))}:${line}`
}

const tell = (sentence: string, details: ReadonlyArray<string> = []): void => {
  Terminal.write(sentence)
  for (const detail of details) Terminal.write(`    ${detail}`)
  // synchronous: there may be no other turn
  if (wantsJson.isWanted()) {
    process.stdout.write(`${print.jsonText({ error: sentence } satisfies typeof Failure.Type)}\n`)
  }
}

let calledFrom: string | undefined

/** What is known of an end that nobody chose. */
const sentenceOf = (): string => {
  const file = loading.current()
  const by = calledFrom === undefined ? "" : `: process.exit was called at ${calledFrom}`
  return file === undefined
    ? `the process was ended before the command was${by === "" ? ", by code that it had loaded" : by}`
    : `${file} ended the process while it was loaded${by}`
}

const watchExit = (): void => {
  const { exit } = process
  process.exit = (code) => {
    calledFrom ??= placeIn(new Error().stack ?? "")
    return exit.call(process, code)
  }
  process.on("exit", (code) => {
    if (isExpected) return
    const signal = stopping.received()
    if (signal !== undefined) {
      process.exitCode = code === 0 ? Shutdown.statuses[signal] : code
      return
    }
    tell(sentenceOf())
    process.exitCode = code === 0 ? 1 : code
  })
}

const watchErrors = (): void => {
  process.on("uncaughtException", (error: unknown) => {
    const { message, stack } = error instanceof Error ? error : new Error(String(error))
    const place = placeIn(stack ?? "") ?? loading.current()
    const where = place === undefined ? "" : ` at ${place}`
    const lines = (stack ?? "").split("\n").map((line) => line.trim()).filter((line) => line.startsWith("at "))
    tell(`an error that nobody caught${where}: ${print.first(message)}`, lines)
    isExpected = true
    process.exit(1)
  })
}

const watchOutput = (): void => {
  let isTold = false
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    const isClosed = error.code === "EPIPE"
    // whoever read has read enough: `sluice status --watch | head`
    if (isClosed && stopping.isEndless()) {
      isExpected = true
      process.exit(0)
    }
    if (isTold) return
    isTold = true
    Terminal.write(
      `the answer could not be written: ${isClosed ? "nobody reads standard output any more" : error.message}`
    )
    if (stopping.isEndless()) {
      isExpected = true
      process.exit(1)
    }
    // what is under way comes to its end
    process.exitCode = Math.max(1, Number(process.exitCode ?? 0))
  })
  // nobody reads the log any more: the work goes on
  process.stderr.on("error", () => {})
}

/** Watches, from now on. */
export const watch = (): void => {
  watchExit()
  watchErrors()
  watchOutput()
}
