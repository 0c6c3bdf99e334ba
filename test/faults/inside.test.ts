/**
 * A cycle that persists inside the server is broken before and after each of its statements: the connection is cut, or the
 * server's process is terminated. Afterwards each answer gets its row and its ledger row, once.
 */
import {
  CallRecorder,
  DomainEvents,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  Settings,
  TableHandler
} from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { afterAll, beforeAll, expect, it } from "vitest"
import { type Breakable, breakable, cut, sidesOf, terminate } from "./breakable.ts"

class Order extends Output.make("schemas.clinic.ward.order", {
  schema: Schema.Struct({ items: Schema.Array(Schema.String) })
}) {}

const OrderHandler = HandlerPlugin.layer(
  "clinic",
  Order,
  TableHandler.make(Order, {
    table: "lab_item",
    object: "clinic.Item",
    each: ({ output }) => output.items,
    columns: ({ call, item, place }) => ({ call_id: call.callId, place, name: item }),
    retry: Schedule.spaced("1 hour")
  })
)

const drain = Drain.layer.pipe(
  Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(OrderHandler))),
  Layer.provide(PgStore.layerStorage),
  Layer.provide(DomainEvents.layer),
  // a lease nobody sees the end of: the test says when it ran out
  Layer.provide(Settings.layer({ lease: Duration.minutes(10), notify: false, listen: false }))
)

let database: Breakable

const cycle = Drain.Drain.use((drain) => drain.cycle)
const cutCycle = () => Effect.runPromiseExit(Effect.provide(cycle, drain.pipe(Layer.provide(database.client))))

/** Two answers with items, one without, and one that the table refuses. */
const orders = { a: ["iron", "zinc"], b: [], c: ["iron"] }

const reset = (withRefused: boolean) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`truncate lab_item, sluice.service_call, sluice.chunk_queue, sluice.persisted_chunk, sluice.dead_letter,
      sluice.chunk_failure, sluice.worker`
    const calls = Object.entries({ ...orders, ...withRefused ? { refused: ["poison"] } : {} })
    const recording = Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      for (const [callId, items] of calls) {
        yield* recorder.record({
          callId,
          namespace: "clinic",
          service: "services.clinic.ward.ask",
          outputs: [yield* Order.encode({ items })]
        })
      }
    })
    yield* Effect.provide(recording, CallRecorder.layer.pipe(Layer.provide(PgStore.layerStorage)), { local: true })
  })

/** Drains as if leases and delays were over. */
const recover = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  for (let n = 0; n < 20; n++) {
    yield* sql`update sluice.chunk_queue set lease_until = now() - interval '1 second' where lease_token is not null`
    const report = yield* cycle
    if (report.claimed === 0) return
  }
})

const picture = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return {
    items: yield* sql`select call_id, place, name from lab_item order by call_id, place`,
    ledger: yield* sql`
      select call_id, (
          select coalesce(json_agg(i.call_id || ' ' || i.place order by o.place), '[]')
          from jsonb_array_elements(l.objects) with ordinality o(value, place)
          join lab_item i on i.id::text = o.value ->> 'id'
        ) as objects
      from sluice.persisted_chunk l order by call_id`,
    queue: yield* sql`select call_id, attempts > 0 as charged from sluice.chunk_queue order by call_id`
  }
})

const done = (withRefused: boolean) => ({
  items: [
    { call_id: "a", place: 1, name: "iron" },
    { call_id: "a", place: 2, name: "zinc" },
    { call_id: "c", place: 1, name: "iron" }
  ],
  ledger: [
    { call_id: "a", objects: ["a 1", "a 2"] },
    { call_id: "b", objects: [] },
    { call_id: "c", objects: ["c 1"] }
  ],
  queue: withRefused ? [{ call_id: "refused", charged: true }] : []
})

beforeAll(async () => {
  database = await breakable()
  const { direct } = database
  await direct(Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* Effect.scoped(Layer.build(PgStore.layer))
    yield* sql`create table lab_item (
      id bigint generated always as identity primary key, call_id text, place int, name text check (name <> 'poison')
    )`
  }))
  // the first beat on new tables has more statements than the others
  await direct(Effect.provide(cycle, drain))
})
afterAll(() => database.close())

const strikes = { "is cut at both ends": cut, "is terminated": terminate }

it.each(
  Object.entries(strikes).flatMap(([name, strike]) =>
    [false, true].map((withRefused) => ({ name, strike, withRefused }))
  )
)(
  "the connection $name at each statement, with a row that is refused: $withRefused",
  async ({ strike, withRefused }) => {
    const { direct } = database
    await direct(reset(withRefused))
    const statements = await database.statementsOf(async () => expect(Exit.isSuccess(await cutCycle())).toBe(true))
    expect(await direct(picture)).toEqual(done(withRefused))
    const begins = statements.findIndex(({ text }) => text.startsWith("with limited "))
    expect(begins).toBeGreaterThan(0)
    // without a refused row, the statement is all there is
    expect(statements.slice(begins).some(({ text }) => /^commit/i.test(text))).toBe(withRefused)
    for (const [index, statement] of statements.entries()) {
      if (index < begins) continue
      for (const side of sidesOf(statement)) {
        const name = `${side} statement ${index + 1}: ${statement.text}`
        await direct(reset(withRefused))
        await database.breakAt({ number: index + 1, side, name }, strike, cutCycle, () => direct(reset(withRefused)))
        await direct(Effect.provide(recover, drain))
        expect(await direct(picture), name).toEqual(done(withRefused))
      }
    }
  },
  600_000
)
