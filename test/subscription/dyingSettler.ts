/**
 * A program that persists all that is due and is killed after its commit, before it looks whether calls have ended.
 */
import { PgClient } from "@effect/sql-pg"
import * as Settings from "effect-sluice/Settings"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Statement from "effect/sql/Statement"
import { settle } from "../contract/operators/dialogues.ts"

const program = settle("persisted").pipe(
  Effect.provideService(Statement.CurrentTransformer, (statement) => {
    if (statement.compile()[0].includes("for update skip locked") && statement.compile()[0].includes("open_call")) {
      process.kill(process.pid, "SIGKILL")
    }
    return Effect.succeed(statement)
  }),
  Effect.provide(PgStore.layer.pipe(
    Layer.provide(Settings.layer()),
    Layer.provideMerge(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))
  ))
)

await Effect.runPromise(program)
