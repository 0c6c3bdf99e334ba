/**
 * Runs the command `sluice` as a process.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { sluice, version } from "./command.ts"
import * as Help from "./Help.ts"
import * as processEnd from "./processEnd.ts"
import * as stopping from "./stopping.ts"
import * as Terminal from "./Terminal.ts"

/** Listens for what tells the command to stop. */
export const listen = (): void => {
  stopping.listen()
  stopping.hearHangup()
}

/** Runs the command, and ends the process. */
export const run = (): void => {
  processEnd.watch()
  sluice.pipe(
    Command.run({ version }),
    Effect.tapCause(Help.asJson),
    Effect.provide(Help.layer),
    Effect.provide(NodeServices.layer),
    Effect.provide(Terminal.layer),
    NodeRuntime.runMain({
      teardown: (exit, onExit) => {
        processEnd.expect()
        onExit(stopping.statusOf(exit))
      }
    })
  )
}
