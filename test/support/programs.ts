/**
 * Programs that tests start: each line of what they print, the first of them, and all when they have ended.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process"
import * as readline from "node:readline"
import type { Readable, Writable } from "node:stream"

/** A program under way. */
export interface Program {
  readonly child: ChildProcessByStdio<Writable, Readable, null>
  /** The first line it prints; `"nothing"` when it ends without one. */
  readonly first: Promise<string>
  /** All lines it has printed, when it has ended. */
  readonly ended: Promise<ReadonlyArray<string>>
}

/** Starts a program. What it says on stderr is the test's. */
export const start = (file: string, ...args: ReadonlyArray<string>): Program => {
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] })
  const lines: Array<string> = []
  const first = Promise.withResolvers<string>()
  readline.createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line)
    first.resolve(line)
  })
  // some are gone before they are told anything
  child.stdin.on("error", () => undefined)
  const ended = new Promise<ReadonlyArray<string>>((resolve) => child.once("close", () => resolve(lines)))
  return { child, ended, first: Promise.race([first.promise, ended.then(() => "nothing")]) }
}

/** Starts a TypeScript file of the tests as a program of this project's sources. */
export const startScript = (file: string, ...args: ReadonlyArray<string>): Program =>
  start(process.execPath, "--conditions=sluice-source", file, ...args)
