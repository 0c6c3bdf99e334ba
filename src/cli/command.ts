/**
 * The command `sluice`, with all its subcommands.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Settings from "../Settings.ts"
import { dead } from "./commands/dead.ts"
import { doctor } from "./commands/doctor.ts"
import { drain } from "./commands/drain.ts"
import { erase } from "./commands/erase.ts"
import { grants } from "./commands/grants.ts"
import { handlers } from "./commands/handlers.ts"
import { init } from "./commands/init.ts"
import { invalid } from "./commands/invalid.ts"
import { mend } from "./commands/mend.ts"
import { migrate } from "./commands/migrate.ts"
import { record } from "./commands/record.ts"
import { show } from "./commands/show.ts"
import { status } from "./commands/status.ts"
import { stuck } from "./commands/stuck.ts"
import { subscriptions } from "./commands/subscriptions.ts"
import { pause, prune, resume } from "./commands/upkeep.ts"
import { usage } from "./commands/usage.ts"
import * as ConfigFile from "./ConfigFile.ts"
import { told } from "./Failed.ts"
import * as Telemetry from "./Telemetry.ts"
import { say } from "./Terminal.ts"
import { version } from "./version.ts"

export { version } from "./version.ts"

/** The settings. Variables without effect are printed as plain lines on stderr, not as log messages. */
const settings = Layer.effect(
  Settings.Settings,
  Effect.tap(told(Settings.config), () => Effect.flatMap(Settings.unknown, Effect.forEach(say)))
)

/** The command `sluice`. */
export const sluice = Command.make("sluice").pipe(
  Command.withDescription(
    "Structured LLM answers into your own tables, exactly once. Works on --url, DATABASE_URL, or an embedded database " +
      "in ./.sluice. Settings: flags, then the environment, then sluice.config.ts"
  ),
  Command.withExamples([
    { command: "sluice init", description: "Start here, on an embedded database" },
    { command: "sluice drain --every 5s", description: "Persist what is recorded, until stopped" },
    { command: "sluice doctor", description: "Report what is wrong, and what to do about it" }
  ]),
  Command.withSubcommands([
    init,
    migrate,
    record,
    drain,
    status,
    stuck,
    show,
    usage,
    invalid,
    handlers,
    dead,
    pause,
    resume,
    prune,
    erase,
    subscriptions,
    grants,
    mend,
    doctor
  ]),
  // built only when a subcommand runs: help and completions read no file and send no telemetry
  Command.provide(
    Telemetry.layer(version).pipe(
      Layer.provideMerge(settings),
      Layer.provideMerge(ConfigFile.layer)
    )
  )
)
