/**
 * The command, run in the test's own process: for many of them, where starting processes would take the time.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as TestConsole from "effect/testing/TestConsole"
import path from "node:path"
import { sluice, version } from "../../src/cli/command.ts"
import * as help from "../../src/cli/help.ts"

/** The flag for a handler module that writes no table. */
export const handlers = ["--handlers", path.join(import.meta.dirname, "notesOfWard.ts")]

/** Runs the command; what it printed, what it said on stderr, and the sentence it failed with. */
export const run = (...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const status = process.exitCode
    const said: Array<string> = []
    const write = process.stderr.write
    process.stderr.write = (text: string | Uint8Array) => {
      said.push(String(text))
      return true
    }
    const exit = yield* Effect.result(Command.runWith(sluice, { version })(args)).pipe(
      Effect.ensuring(Effect.sync(() => {
        process.stderr.write = write
        // the doctor's says how bad it is, and is not this process's
        process.exitCode = status
      }))
    )
    return exit._tag === "Success"
      ? { printed: (yield* TestConsole.logLines).join("\n"), said: said.join(""), failed: "" }
      : { printed: "", said: said.join(""), failed: String(exit.failure.message) }
  }).pipe(Effect.provide([help.layer, NodeServices.layer, TestConsole.layer], { local: true }))
