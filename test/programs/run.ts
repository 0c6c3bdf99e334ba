/**
 * Runs random programs as handlers on a real Postgres, in batches of a size, and holds the tables against those of the
 * same programs one after another.
 */
import {
  CallRecorder,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  Settings
} from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlResolver from "effect/sql/SqlResolver"
import { client } from "../support/client.ts"
import { dice } from "../support/dice.ts"
import {
  applyAll,
  emptyTables,
  isDoomed,
  printTables,
  type Program,
  programs,
  type Step,
  type Tables
} from "./program.ts"

class Task extends Output.make("schemas.clinic.ward.task", { version: 1, schema: Schema.Any }) {}

const names = ["counter", "place", "total", "only_one", "owned", "request", "scratched", "given", "started"]

const makeTables = (sql: SqlClient.SqlClient) =>
  Effect.forEach([
    "create table if not exists counter (id int primary key, value int not null)",
    "create table if not exists place (line int, place int, primary key (line, place))",
    "create table if not exists total (name int primary key, value int not null)",
    "create table if not exists only_one (name int primary key, by text not null)",
    "create table if not exists owned (tenant text not null, by text not null)",
    "create table if not exists request (name int, n int not null, id serial)",
    "create table if not exists scratched (sum int)",
    "create table if not exists given (by text, step text, what text)",
    "create table if not exists started (id bigserial, by text primary key)",
    `create or replace function become_tenant(tenant text) returns void language plpgsql as
      $$ begin perform set_config('app.tenant', tenant, true); end $$`,
    `create or replace function move_to_tenant(tenant text) returns void language plpgsql as
      $$ begin perform set_config('app.tenant', tenant, false); end $$`,
    `truncate ${names.join(", ")}`
  ], (statement) =>
    sql.unsafe(statement), { discard: true })

/** Carries out a step; what it was given is written down in the same transaction. */
const carryOut = (
  sql: SqlClient.SqlClient,
  ask: (name: number) => Effect.Effect<unknown, unknown>,
  program: Program,
  attempt: number
) => {
  const given = (step: Step, what: unknown) =>
    sql`insert into given values (${program.id}, ${step._tag}, ${String(what)})`
  const doStep: (step: Step) => Effect.Effect<unknown, unknown> = Effect.fnUntraced(function*(step: Step) {
    switch (step._tag) {
      case "Count": {
        yield* sql`insert into counter values (${step.counter}, 0) on conflict do nothing`
        const [row] = yield* sql<{ value: number }>`select value from counter where id = ${step.counter} for update`
        const next = row!.value + step.by
        yield* sql`update counter set value = ${next} where id = ${step.counter}`
        return yield* given(step, next)
      }
      case "Place": {
        yield* sql`select pg_advisory_xact_lock(${step.line})`
        const [row] = yield* sql<{ next: number }>`
          select coalesce(max(place), 0) + 1 as next from place where line = ${step.line}`
        yield* sql`insert into place values (${step.line}, ${row!.next})`
        return yield* given(step, row!.next)
      }
      case "Upsert":
        return yield* sql`insert into total values (${step.name}, ${step.by})
          on conflict (name) do update set value = total.value + excluded.value`
      case "Once": {
        const rows = yield* sql`select from only_one where name = ${step.name}`
        if (rows.length === 0) yield* sql`insert into only_one values (${step.name}, ${program.id})`
        return yield* given(step, rows.length > 0)
      }
      case "Savepoint": {
        const steps = Effect.forEach(step.steps, doStep, { discard: true })
        return step.fails
          ? yield* Effect.ignore(sql.withTransaction(Effect.andThen(steps, sql`select 1 / 0`)))
          : yield* sql.withTransaction(steps)
      }
      case "Tenant":
        switch (step.way) {
          case "set local":
            return yield* sql.unsafe(`set local app.tenant = '${step.tenant}'`)
          case "set_config":
            return yield* sql`select set_config('app.tenant', ${step.tenant}, true)`
          case "set_config with a name":
            return yield* sql`select 1 as one, set_config('app.tenant', ${step.tenant}, true) as tenant`
          case "function for the session":
            return yield* sql`select move_to_tenant(${step.tenant})`
          case "function":
            return yield* sql`select become_tenant(${step.tenant})`
        }
      // each of the ways ends here
      // falls through
      case "Own":
        return yield* sql`insert into owned
          values (coalesce(nullif(current_setting('app.tenant', true), ''), 'nobody'), ${program.id})`
      case "Request":
        return yield* Effect.flatMap(ask(step.name), (n) => given(step, n))
      case "Scratch":
        yield* sql`create temporary table scratch (value int) on commit drop`
        yield* sql`insert into scratch select unnest(${step.values}::int[])`
        return yield* sql`insert into scratched select sum(value) from scratch`
      case "Both":
        return yield* Effect.all([doStep(step.left), doStep(step.right)], { concurrency: 2 })
      case "Sleep":
        return yield* Effect.sleep(step.millis)
      case "Fail":
        return attempt <= step.attempts ? yield* Effect.fail("so it was planned") : undefined
    }
  })
  return Effect.forEach(program.steps, doStep, { discard: true })
}

const handler = HandlerPlugin.layer(
  "clinic",
  Task,
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const ask = SqlResolver.request(SqlResolver.ordered({
      Request: Schema.Number,
      Result: Schema.Struct({ n: Schema.Number }),
      execute: (requests) =>
        Effect.forEach(requests, (name) =>
          Effect.map(
            sql<{ n: number }>`insert into request (name, n)
              select ${name}, count(*) + 1 from request where name = ${name} returning n`,
            ([row]) => row!
          ))
    }))
    return {
      maxAttempts: 3,
      retry: Schedule.spaced("1 millis"),
      persist: Effect.fnUntraced(
        function*(
          { call, output }: {
            readonly call: { readonly callId: string; readonly attempt: number }
            readonly output: unknown
          }
        ) {
          // what was recorded is a program
          const program = output as Program
          // the order of the runs whose effects last: a mate's row is seen, and an undone run's is not
          yield* sql`insert into started (by) values (${call.callId})`
          yield* carryOut(sql, (name) => Effect.map(ask(name), ({ n }) => n), program, call.attempt)
          return DomainObject.make("clinic.Task", call.callId)
        }
      )
    }
  })
)

const read = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const tables = emptyTables()
  const rows = <Row extends object>(text: string) => sql.unsafe<Row>(text)
  for (const row of yield* rows<{ id: number; value: number }>("select * from counter")) {
    // a row that was only locked
    if (row.value !== 0) tables.counters.set(row.id, row.value)
  }
  for (const row of yield* rows<{ line: number; n: number }>("select line, count(*)::int as n from place group by 1")) {
    tables.places.set(row.line, row.n)
  }
  for (const row of yield* rows<{ name: number; value: number }>("select * from total")) {
    tables.sums.set(row.name, row.value)
  }
  for (const row of yield* rows<{ name: number; by: string }>("select * from only_one")) {
    tables.once.set(row.name, row.by)
  }
  for (const row of yield* rows<{ tenant: string; by: string }>("select * from owned")) {
    tables.owned.push(`${row.tenant} by ${row.by}`)
  }
  for (const row of yield* rows<{ name: number; n: number }>("select name, max(n)::int as n from request group by 1")) {
    tables.requests.set(row.name, row.n)
  }
  for (const row of yield* rows<{ sum: number }>("select sum from scratched")) tables.scratch.push(row.sum)
  for (const row of yield* rows<{ by: string; step: string; what: string }>("select * from given")) {
    tables.given.push(`${row.by} ${row.step} ${row.what}`)
  }
  const started = yield* rows<{ by: string }>("select by from started order by id")
  const lines = yield* rows<{ call_id: string }>(
    "select call_id from sluice.persisted_chunk where call_id like 'call-%'"
  )
  return { tables, order: started.map((row) => row.by), ledger: lines.map((row) => row.call_id) }
})

/** What is wrong with the tables after a seed's programs; nothing, if all is well. */
export interface Verdict {
  readonly seed: number
  readonly batchSize: number
  readonly wrong: ReadonlyArray<string>
}

const differences = (found: Tables, wanted: Tables): ReadonlyArray<string> => {
  const [is, should] = [printTables(found), printTables(wanted)]
  return Object.keys(should).flatMap((name) =>
    String(is[name]) === String(should[name]) ? [] : [`${name}: found ${is[name]}; one after another ${should[name]}`]
  )
}

/** Runs a seed's programs in batches of a size. */
export const runSeed = Effect.fnUntraced(function*(seed: number, batchSize: number) {
  const sql = yield* SqlClient.SqlClient
  const list = programs(dice(seed), 24)
  const byId = new Map(list.map((program) => [program.id, program]))
  yield* makeTables(sql)
  const application = Layer.mergeAll(CallRecorder.layer, Drain.layer).pipe(
    Layer.provide(HandlerRegistry.layer()),
    Layer.provide(handler),
    Layer.provide(DomainEvents.layer),
    Layer.provideMerge(PgStore.layer),
    Layer.provide(Settings.layer({ batchSize, handlerTimeout: Duration.seconds(20), notify: false })),
    Layer.fresh
  )
  return yield* Effect.gen(function*() {
    yield* sql.unsafe("truncate sluice.service_call, sluice.chunk_queue, sluice.persisted_chunk, sluice.dead_letter")
    const recorder = yield* CallRecorder.CallRecorder
    const drain = yield* Drain.Drain
    yield* recorder.recordMany(list.map((program) => ({
      callId: program.id,
      namespace: "clinic",
      service: "services.clinic.ward.set-task",
      outputs: [{ schema: Task.identity, version: 1, data: JSON.parse(JSON.stringify(program)) }]
    })))
    const outstanding = sql<{ n: number }>`select count(*)::int as n from sluice.chunk_queue`
    yield* Effect.repeat(Effect.andThen(drain.untilEmpty, outstanding), { until: ([row]) => row!.n === 0 })
    const { ledger, order, tables } = yield* read(sql)
    const wrong = [...differences(tables, applyAll(order.map((id) => byId.get(id)!)))]
    const want = list.filter((program) => !isDoomed(program)).map(({ id }) => id).sort()
    if (String([...ledger].sort()) !== String(want)) wrong.push(`ledger: found ${ledger}, wanted ${want}`)
    if (String([...order].sort()) !== String(want)) wrong.push(`runs: found ${order}, wanted ${want}`)
    return { seed, batchSize, wrong } satisfies Verdict
  }).pipe(Effect.provide(application), Effect.provide(Logger.layer([])))
})

/** The database programs are run on. */
export const database = (url: string) => client(url, { maxConnections: 4 })

/** The sizes of batches that are tried. */
export const batchSizes = [1, 2, 100]
