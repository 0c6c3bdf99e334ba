/**
 * A cycle that persists inside the server is cut before and after each of its statements: the connection, the server's process,
 * the worker's process. Whatever was cut, in the end each answer has its row and its line in the ledger, once.
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
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { afterAll, beforeAll, expect, it } from "vitest"
import { client, freshDatabase } from "../support/Postgres.ts"
import { type Passing, type Proxy, startProxy } from "./proxy.ts"

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

const scope = Scope.makeUnsafe()
let proxied = ""
let proxy: Proxy
/** Past the proxy: what the test itself does is not cut. */
let past: ManagedRuntime.ManagedRuntime<SqlClient.SqlClient | Settings.Settings, unknown>
const direct = <A, E>(program: Effect.Effect<A, E, SqlClient.SqlClient | Settings.Settings>) => past.runPromise(program)

const cycle = Drain.Drain.use((drain) => drain.cycle)
const cutCycle = () =>
  Effect.runPromiseExit(Effect.provide(cycle, drain.pipe(Layer.provide(client(proxied, { maxConnections: 2 })))))

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
  const url = await Effect.runPromise(Scope.provide(freshDatabase(), scope))
  const { hostname, pathname, port, username } = new URL(url)
  proxy = await startProxy(Number(port))
  proxied = `postgres://${username}@${hostname}:${proxy.port}${pathname}`
  past = ManagedRuntime.make(client(url, { maxConnections: 3 }))
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
afterAll(async () => {
  await past.dispose()
  await proxy.close()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

const terminate = async ({ backend }: Passing) => {
  await direct(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_terminate_backend(${backend}, 5000)`))
  return "pass" as const
}
const strikes = { "is cut at both ends": () => Promise.resolve("cut" as const), "is terminated": terminate }

it.each(
  Object.entries(strikes).flatMap(([name, strike]) =>
    [false, true].map((withRefused) => ({ name, strike, withRefused }))
  )
)(
  "the connection $name at each statement, with a row that is refused: $withRefused",
  async ({ strike, withRefused }) => {
    const statements: Array<string> = []
    proxy.watch(({ side, text }) => {
      if (side === "before") statements.push(text.replaceAll(/\s+/g, " ").trim())
      return "pass"
    })
    await direct(reset(withRefused))
    expect(Exit.isSuccess(await cutCycle())).toBe(true)
    expect(await direct(picture)).toEqual(done(withRefused))
    const begins = statements.findIndex((text) => text.startsWith("with limited "))
    expect(begins).toBeGreaterThan(0)
    // without a refused row, the statement is all there is
    expect(statements.slice(begins).some((text) => /^commit/i.test(text))).toBe(withRefused)
    for (let index = begins; index < statements.length; index++) {
      for (const side of ["before", "after"] as const) {
        const where = `${side} statement ${index + 1}: ${statements[index]}`
        await direct(reset(withRefused))
        let struck = false
        proxy.watch((passing) => {
          if (struck || passing.number !== index + 1 || passing.side !== side) return "pass"
          struck = true
          return strike(passing)
        })
        await cutCycle()
        expect(struck, where).toBe(true)
        proxy.watch(() => "pass")
        await direct(Effect.provide(recover, drain))
        expect(await direct(picture), where).toEqual(done(withRefused))
      }
    }
  },
  600_000
)
