/**
 * A worker whose handler hangs and cannot be interrupted: a program for the tests of `Shutdown`, which has the database's
 * address as its argument.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { DomainEvents, Drain, DrainWorker, HandlerPlugin, HandlerRegistry, Settings, Shutdown } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { client } from "./support/client.ts"
import { Note } from "./support/clinic.ts"

const handler = HandlerPlugin.layer(
  "clinic",
  Note,
  Effect.map(SqlClient.SqlClient, (sql) => ({
    persist: () =>
      Effect.uninterruptible(Effect.andThen(Effect.andThen(sql`select 1`, Console.log("hangs")), Effect.never))
  }))
)

const gracePeriod = Duration.millis(100)

const program = Layer.merge(DrainWorker.layer(), Shutdown.layer).pipe(
  Layer.provide(Drain.layer),
  Layer.provide(HandlerRegistry.layer()),
  Layer.provide(handler),
  Layer.provide([PgStore.layer, DomainEvents.layer]),
  Layer.provide(Settings.layer({ gracePeriod })),
  Layer.provide(client(process.argv[2] ?? ""))
)

NodeRuntime.runMain(Layer.launch(program), { teardown: Shutdown.teardown })
