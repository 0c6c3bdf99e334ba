#!/usr/bin/env node
/**
 * The command `sluice`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { createRequire } from "node:module"
import { dead } from "./commands/dead.ts"
import { doctor } from "./commands/doctor.ts"
import { drain } from "./commands/drain.ts"
import { handlers } from "./commands/handlers.ts"
import { migrate } from "./commands/migrate.ts"
import { record } from "./commands/record.ts"
import { show } from "./commands/show.ts"
import { status } from "./commands/status.ts"
import { pause, prune, resume } from "./commands/upkeep.ts"
import * as configFile from "./configFile.ts"
import * as help from "./help.ts"

const { version } = createRequire(import.meta.url)("../../package.json") as { readonly version: string }

const sluice = Command.make("sluice").pipe(
  Command.withDescription(
    "Structured LLM answers into your own tables, exactly once. Works on --url, DATABASE_URL, or an embedded database in ./.sluice"
  ),
  Command.withSubcommands([migrate, record, drain, status, handlers, show, dead, prune, pause, resume, doctor])
)

// a second signal does not wait for the grace period: what is not committed is given up, and nothing is lost by that
let signals = 0
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (++signals > 1) process.exit(130)
  })
}

sluice.pipe(
  Command.run({ version }),
  Effect.provide(configFile.layer),
  Effect.provide(help.layer),
  Effect.provide(NodeServices.layer),
  // stdout is the answer's; a line of the log is a line, where no person reads it
  Effect.provideService(Logger.LogToStderr, true),
  Effect.provide(process.stderr.isTTY ? Layer.empty : Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])),
  NodeRuntime.runMain({
    // being stopped is how a drain ends well
    teardown: (exit, onExit) =>
      onExit(
        Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)
          ? typeof process.exitCode === "number" ? process.exitCode : 0
          : 1
      )
  })
)
