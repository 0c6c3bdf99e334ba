/**
 * The command in the process of the test: what it prints, without the time that a process of its own takes to start.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestConsole from "effect/testing/TestConsole"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { vi } from "vitest"
import { sluice, version } from "../../src/cli/command.ts"
import * as Help from "../../src/cli/Help.ts"
import * as Terminal from "../../src/cli/Terminal.ts"
import * as wantsJson from "../../src/cli/wantsJson.ts"
import { atEndOfFile } from "../support/endOfFile.ts"

/** The flag for a handler module that writes no table. */
export const handlers = ["--handlers", path.join(import.meta.dirname, "notesOfWard.ts")]

/** Works in an empty folder until the test file ends: a folder without handlers and settings. */
export const workInEmptyFolder = (): string => {
  const here = process.cwd()
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-empty-"))
  atEndOfFile(() => {
    process.chdir(here)
    fs.rmSync(folder, { recursive: true })
  })
  process.chdir(folder)
  return folder
}

/** What a command printed. */
export interface Printed {
  readonly failed: boolean
  /** The sentence it failed with. */
  readonly reason: string
  /** As of a process: 0, 1, or what the doctor says by it. */
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/**
 * The same from a folder, as a process would have ended. Modules are loaded once: not for what loads one that has changed.
 */
export const runIn = async (folder: string, ...args: ReadonlyArray<string>) => {
  const here = process.cwd()
  process.chdir(folder)
  try {
    const { status, stderr, stdout } = await run(...args)
    return { status, stderr, stdout: stdout === "" ? "" : `${stdout}\n` }
  } finally {
    process.chdir(here)
  }
}

/** Runs a command line. */
export const run = async (...args: ReadonlyArray<string>): Promise<Printed> => {
  let stderr = ""
  const write = vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += String(text)
    return true
  })
  const { argv } = process
  process.argv = ["node", "sluice", ...args]
  process.exitCode = undefined
  wantsJson.settle(undefined)
  try {
    const [exit, stdout, errors] = await Effect.runPromise(
      Effect.exit(Command.runWith(sluice, { version })(args).pipe(Effect.tapCause(Help.asJson))).pipe(
        Effect.flatMap((exit) => Effect.all([Effect.succeed(exit), TestConsole.logLines, TestConsole.errorLines])),
        Effect.provide([Help.layer, NodeServices.layer, TestConsole.layer, Terminal.logger])
      )
    )
    const failed = Exit.isFailure(exit)
    const error = failed ? Cause.squash(exit.cause) : undefined
    const reason = error instanceof Error ? error.message : ""
    const status = typeof process.exitCode === "number" && process.exitCode > 0 ? process.exitCode : failed ? 1 : 0
    return { failed, reason, status, stdout: stdout.join("\n"), stderr: stderr + errors.join("\n") }
  } finally {
    write.mockRestore()
    process.argv = argv
    process.exitCode = undefined
  }
}

/** {@link run}, as an effect. */
export const running = (...args: ReadonlyArray<string>) => Effect.promise(() => run(...args))
