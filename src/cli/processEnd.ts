/**
 * Handles an unexpected end of the process: a handler calls `process.exit`, an error is uncaught, or the answer cannot be
 * written. Each is reported in one sentence, and none exits like a success.
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

/** Marks the end of the process as expected: the command has ended. */
export const expect = (): void => {
  isExpected = true
}

const ours = new URL(".", import.meta.url).href

/** The first place in a stack outside the command, as a file and a line; code outside `node_modules` is preferred. */
const placeIn = (stack: string): string | undefined => {
  const places = [...stack.matchAll(/(file:\/\/[^\s)]+?):(\d+):\d+/g)].filter(([place]) => !place.startsWith(ours))
  const [, file, line] = places.find(([place]) => !place.includes("/node_modules/")) ?? places[0] ?? []
  return file === undefined ? undefined : `${path.relative(".", fileURLToPath(file))}:${line}`
}

const tell = (sentence: string, details: ReadonlyArray<string> = []): void => {
  Terminal.write(sentence)
  for (const detail of details) Terminal.write(`    ${detail}`)
  // synchronous: the process may end with this turn
  if (wantsJson.isWanted()) {
    process.stdout.write(`${print.jsonText({ error: sentence } satisfies typeof Failure.Type)}\n`)
  }
}

let calledFrom: string | undefined

/** Describes an unexpected end of the process. */
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
    tell(`an uncaught error${where}: ${print.first(message)}`, lines)
    isExpected = true
    process.exit(1)
  })
}

const watchOutput = (): void => {
  let isTold = false
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    const isClosed = error.code === "EPIPE"
    // the reader has read enough: `sluice status --watch | head`
    if (isClosed && stopping.isEndless()) {
      isExpected = true
      process.exit(0)
    }
    if (isTold) return
    isTold = true
    Terminal.write(
      `the answer could not be written: ${isClosed ? "standard output was closed" : error.message}`
    )
    if (stopping.isEndless()) {
      isExpected = true
      process.exit(1)
    }
    // the work under way still finishes
    process.exitCode = Math.max(1, Number(process.exitCode ?? 0))
  })
  // without a reader of the log, the work goes on
  process.stderr.on("error", () => {})
}

/** Starts to watch for an unexpected end. */
export const watch = (): void => {
  watchExit()
  watchErrors()
  watchOutput()
}
