/**
 * A worker of the chaos: drains, and reads what was created as a durable subscriber. Arguments: the database's address,
 * and by how many milliseconds this process' clock is wrong.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { DomainEvents, Drain, DrainWorker, Shutdown, Subscription } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import { client } from "../support/client.ts"
import { registry, settings } from "./ward.ts"

const [url = "", wrongBy = "0"] = process.argv.slice(2)

/** A clock that goes wrong by this much, and otherwise as it should. */
const wrongClock = Layer.effect(
  Clock.Clock,
  Effect.map(Clock.clockWith(Effect.succeed), (clock): Clock.Clock => {
    const millis = Number(wrongBy)
    const nanos = BigInt(millis) * 1_000_000n
    return {
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + millis,
      currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + millis),
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe() + nanos,
      currentTimeNanos: Effect.map(clock.currentTimeNanos, (now) => now + nanos),
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: clock.monotonicTimeNanos,
      sleep: (duration) => clock.sleep(duration)
    }
  })
)

const audit = Layer.unwrap(
  Effect.map(
    SqlClient.SqlClient,
    (sql) =>
      Subscription.layer("audit", ({ object }) =>
        sql`insert into heard (note_id) values (${object.id}::bigint)
        on conflict (note_id) do update set times = heard.times + 1`, { retry: Schedule.spaced("300 millis") })
  )
)

const program = Layer.mergeAll(DrainWorker.layer(), audit).pipe(
  Layer.provide(Drain.layer),
  Layer.provide(registry),
  Layer.provide([PgStore.layerStorage, DomainEvents.layer]),
  Layer.provide(settings),
  Layer.provide(client(url, { maxConnections: 6 }))
)

NodeRuntime.runMain(
  Layer.launch(program).pipe(
    // the database may not be there yet
    Effect.retry(Schedule.spaced("500 millis")),
    Effect.provide(Layer.mergeAll(wrongClock, Logger.layer([]), Layer.provide(Shutdown.layer, settings)))
  ),
  { disableErrorReporting: true, teardown: Shutdown.teardown }
)
