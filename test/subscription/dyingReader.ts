/**
 * A program that reads a subscription and is killed right after it has handled the event `DIE_AT`, before it can move on.
 */
import { PgClient } from "@effect/sql-pg"
import { Subscription } from "effect-sluice"
import * as Settings from "effect-sluice/Settings"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"

const reader = Layer.unwrap(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const dieAt = yield* Config.String("DIE_AT")
  return Subscription.layer("media", ({ key }) =>
    Effect.gen(function*() {
      yield* sql`insert into seen (call_id, reader) values (${key.callId}, 'killed')`
      if (key.callId === dieAt) process.kill(process.pid, "SIGKILL")
    }))
}))

const program = reader.pipe(
  Layer.provide(PgStore.layer),
  Layer.provide(Settings.layer()),
  Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))
)

// the timer keeps the process until it is killed
setInterval(() => {}, 1000)
await Effect.runPromise(Layer.launch(program))
