/**
 * Declared handlers of a laboratory, their tables, and what is recorded for them.
 */
import {
  CallRecorder,
  DomainEvents,
  Drain,
  HandlerRegistry,
  Output,
  OutputGroup,
  type ServiceCall,
  Settings,
  TableHandler
} from "effect-sluice"
import { MemoryDatabase, table } from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import type { Stores } from "effect-sluice/store/Stores"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Postgres from "./Postgres.ts"

const deep = Schema.Struct({ word: Schema.String })

/** A finding, with a field for each kind of column. */
export class Finding extends Output.make("schemas.clinic.laboratory.finding", {
  version: 2,
  schema: Schema.Struct({
    text: Schema.String,
    level: Schema.Literals(["low", "high"]),
    count: Schema.Int,
    big: Schema.BigInt,
    amount: Schema.Finite,
    sure: Schema.Boolean,
    at: Schema.DateTimeUtcFromString,
    day: Schema.String,
    tags: Schema.Array(Schema.String),
    places: Schema.Array(Schema.NullOr(Schema.Int)),
    whole: Schema.Struct({ deep, list: Schema.Array(Schema.Struct({ a: Schema.Int })) }),
    maybe: Schema.optionalKey(Schema.NullOr(deep)),
    "odd'\\key": Schema.optionalKey(Schema.NullOr(Schema.String))
  }),
  upcasts: { 1: Output.upcast(Schema.Struct({ text: Schema.String }), ({ text }) => ({ ...encoded, text })) }
}) {}

/** An order: a row for each of its items. */
export class Order extends Output.make("schemas.clinic.laboratory.order", {
  schema: Schema.Struct({
    items: Schema.Array(Schema.Struct({ name: Schema.String, dose: Schema.NullOr(Schema.Finite) }))
  })
}) {}

/** The card of a patient: one row for each patient, overwritten. */
export class Card extends Output.make("schemas.clinic.laboratory.card", {
  schema: Schema.Struct({ patient: Schema.String, ward: Schema.String, note: Schema.String })
}) {}

/** The laboratory's outputs. */
export const Laboratory = OutputGroup.make("clinic", Finding, Order, Card)

const encoded = {
  text: "",
  level: "low",
  count: 7,
  big: "9007199254740993",
  amount: 1.25,
  sure: true,
  at: "2026-01-02T03:04:05.678Z",
  day: "2026-02-28",
  tags: ["a", "b,c", "\"q\""],
  places: [1, null, 3],
  whole: { deep: { word: "w" }, list: [{ a: 1 }] }
}

/** A finding to be recorded. */
export const finding = (text: string, more: object = {}) =>
  Effect.flatMap(
    Schema.decodeEffect(Schema.toCodecJson(Finding.schema))({ ...encoded, text, ...more }),
    (value) => Finding.encode(value)
  )

/** The handler of findings. */
export const findings = TableHandler.make(Finding, {
  version: 3,
  maxAttempts: 1,
  table: "finding",
  object: "clinic.Finding",
  columns: ({ call, output }) => ({
    call_id: call.callId,
    namespace: call.namespace,
    service: call.service,
    correlation: call.correlationId,
    part: call.part,
    ordering: call.orderingKey,
    finished: call.finishedAt,
    ward: call.context("ward"),
    hint: call.optionalContext("hint"),
    text: output.text,
    level: output.level,
    count: output.count,
    big: output.big,
    amount: output.amount,
    sure: output.sure,
    at: output.at,
    day: output.day,
    tags: output.tags,
    places: output.places,
    whole: output.whole,
    word: output.whole.deep.word,
    maybe: output.maybe.word,
    odd: output["odd'\\key"],
    kind: "it's \\ fixed",
    one: 1,
    nothing: null
  })
})

/** The declared handlers. */
export const handlers = Laboratory.toLayer({
  finding: findings,
  order: TableHandler.make(Order, {
    maxAttempts: 1,
    table: "lab_order",
    object: "clinic.Order",
    each: ({ output }) => output.items,
    columns: ({ call, item, place }) => ({ call_id: call.callId, place, name: item.name, dose: item.dose })
  }),
  card: TableHandler.make(Card, {
    maxAttempts: 1,
    table: "card",
    object: "clinic.Card",
    columns: ({ output }) => ({ patient: output.patient, ward: output.ward, note: output.note }),
    key: ["patient"],
    overwrite: ["note"]
  })
})

/** The laboratory's tables. */
export const tables = [
  "create type level as enum ('low', 'high')",
  `create table finding (
    id bigint generated always as identity primary key, call_id text unique, namespace text, service text, correlation text,
    part text, ordering text, finished timestamptz, ward varchar(20) not null, hint text, text varchar(40) check (text <> 'bad'),
    level level, count int check (count < 100), big numeric, amount numeric(10, 2), sure boolean, at timestamptz, day date,
    tags text[], places int[], whole jsonb, word text, maybe text, odd text, kind text, one smallint, nothing text
  )`,
  "create table lab_order (id uuid primary key default gen_random_uuid(), call_id text, place int, name text not null, dose float8)",
  "create table card (id serial primary key, patient text unique, ward text, note text)"
]

/** The rows of a table of the laboratory, in the order in which they were made, without ids. */
export class Read extends Context.Service<Read, {
  readonly rows: (name: string) => Effect.Effect<ReadonlyArray<Readonly<Record<string, unknown>>>>
}>()("test/declared/Read") {}

const orders: Readonly<Record<string, string>> = { finding: "call_id", lab_order: "call_id, place", card: "id" }

const readTables = Layer.effect(
  Read,
  Effect.map(SqlClient.SqlClient, (sql) =>
    Read.of({
      rows: (name) =>
        Effect.orDie(
          Effect.map(
            sql.unsafe<{ row: Record<string, unknown> }>(
              `select to_jsonb(t) as row from ${name} t order by ${orders[name] ?? "1"}`
            ),
            (found) => found.map(({ row }) => row)
          )
        )
    }))
)

const readMemory = Layer.effect(
  Read,
  Effect.map(
    MemoryDatabase,
    (db) =>
      Read.of({ rows: (name) => db.use((access) => access.values(table<Readonly<Record<string, unknown>>>(name))) })
  )
)

/** A database's store, with the laboratory's tables. `more` is run after they are made. */
export const withTables = <E>(
  client: Layer.Layer<SqlClient.SqlClient, E>,
  more: ReadonlyArray<string> = []
): Store<SqlClient.SqlClient> =>
  Layer.merge(PgStore.layer, readTables).pipe(
    Layer.provideMerge(Layer.effectDiscard(
      Effect.flatMap(
        SqlClient.SqlClient,
        (sql) => Effect.forEach([...tables, ...more], (statement) => sql.unsafe(statement))
      )
    )),
    Layer.provideMerge(client)
  )

/** A store with the laboratory's tables. */
export type Store<More = never> = Layer.Layer<Stores | Read | More, unknown, Settings.Settings>

/** The databases that have SQL. `more` is run after the tables are made. */
export const servers = {
  "Postgres 18": (more: ReadonlyArray<string> = []) => withTables(Postgres.layer(18), more),
  "Postgres 15": (more: ReadonlyArray<string> = []) => withTables(Postgres.layer(15), more),
  PGlite: (more: ReadonlyArray<string> = []) => withTables(Pglite.layer(), more)
}

/** The store in memory. */
export const memory: Store = readMemory.pipe(Layer.provideMerge(MemoryStore.layer))

/** Recorder and drain of the laboratory, over a store. */
export const application = <More = never>(store: Store<More>, settings: Partial<Settings.Values> = {}) =>
  Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
    // before the store's: the client of a server brings settings of its own
    Layer.provide(Settings.layer(settings)),
    Layer.provideMerge(HandlerRegistry.layer(Laboratory)),
    Layer.provide(handlers),
    Layer.provideMerge(DomainEvents.layer),
    Layer.provideMerge(store),
    Layer.provideMerge(Settings.layer(settings))
  )

/** Records a call with these outputs. */
export const record = Effect.fnUntraced(function*(
  callId: string,
  output: ServiceCall.RecordedOutput,
  more: Partial<ServiceCall.ServiceCall> = {}
) {
  const recorder = yield* CallRecorder.CallRecorder
  yield* recorder.record({
    callId,
    namespace: "clinic",
    service: "services.clinic.laboratory.examine",
    context: { ward: "w1" },
    finishedAt: DateTime.makeUnsafe("2026-05-05T05:05:05.500Z"),
    outputs: [output],
    ...more
  })
})
