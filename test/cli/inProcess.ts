/**
 * The command in the process of the test: what it prints, without the time that a process of its own takes to start.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestConsole from "effect/testing/TestConsole"
import { vi } from "vitest"
import { sluice, version } from "../../src/cli/command.ts"
import * as help from "../../src/cli/help.ts"
import * as terminal from "../../src/cli/terminal.ts"
import * as wantsJson from "../../src/cli/wantsJson.ts"

/** What a command printed. */
export interface Printed {
  readonly failed: boolean
  readonly stdout: string
  readonly stderr: string
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
  wantsJson.settle(undefined)
  try {
    const [exit, stdout, errors] = await Effect.runPromise(
      Effect.exit(Command.runWith(sluice, { version })(args).pipe(Effect.tapCause(help.asJson))).pipe(
        Effect.flatMap((exit) => Effect.all([Effect.succeed(exit), TestConsole.logLines, TestConsole.errorLines])),
        Effect.provide([help.layer, NodeServices.layer, TestConsole.layer, terminal.logger])
      )
    )
    return { failed: Exit.isFailure(exit), stdout: stdout.join("\n"), stderr: stderr + errors.join("\n") }
  } finally {
    write.mockRestore()
    process.argv = argv
    process.exitCode = undefined
  }
}
