/**
 * A worker of the chaos: drains, reads what was created as a durable subscriber, and records calls that it persists in the
 * same commit. Arguments: the database's address, by how many milliseconds this process' clock is wrong, which worker it is,
 * and the seed. Every second worker has the server persist the answers of declared handlers.
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
import { recordedErrors } from "../support/recordedErrors.ts"
import { end, expect } from "./expected.ts"
import { planCall } from "./plan.ts"
import { registry, settingsWith } from "./ward.ts"

const [url = "", wrongBy = "0", worker = "0", seed = "0"] = process.argv.slice(2)
const settings = settingsWith(Number(worker) % 2 === 0)

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

/**
 * Calls are named after their worker, which is one process after another: each goes on behind the calls of those before it.
 */
const name = `now-${worker}-`

/** Records a call and persists it. One that is not said to be recorded is not tried again: it may be lost. */
const recordOne = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const drain = yield* Drain.Drain
  // what did not end, ended with its process or by an error
  yield* end(`call-${name}`, "unknown")
  const [last] = yield* sql<{ place: number }>`
    select coalesce(max(place), 0)::int as place from expected where starts_with(call_id, ${`call-${name}`})`
  const place = (last?.place ?? 0) + 1
  const planned = planCall(Number(seed), place, { of: name, isInOrder: true })
  if (!(yield* expect(planned, { place, way: "now" }))) return
  yield* Effect.catchTag(drain.recordNow(planned.call), recordedErrors, () => Effect.void)
  yield* end(planned.call.callId, "recorded")
})

const recording = Layer.effectDiscard(Effect.forkScoped(
  Effect.forever(Effect.delay(Effect.ignoreCause(recordOne), "300 millis"))
))

const program = Layer.mergeAll(DrainWorker.layer(), audit, recording).pipe(
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
