/**
 * The command `sluice` as a process.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { sluice, version } from "./command.ts"
import * as help from "./help.ts"
import * as stopping from "./stopping.ts"
import * as terminal from "./terminal.ts"

stopping.listen()
// whoever read has read enough: `sluice status --watch | head`
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error
  process.exit(0)
})
// nobody reads the log any more: the work goes on
process.stderr.on("error", () => {})

sluice.pipe(
  Command.run({ version }),
  Effect.tapError(help.asJson),
  Effect.provide(help.layer),
  Effect.provide(NodeServices.layer),
  // stdout is the answer's
  Effect.provide(terminal.logger),
  NodeRuntime.runMain({ teardown: (exit, onExit) => onExit(stopping.statusOf(exit)) })
)
