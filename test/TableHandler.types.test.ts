/**
 * Declared handlers whose tables have domains, roundings, collations, rules and views: a value is neither cut off nor
 * refused by its way into the column, and what no declaration can write is found before an attempt is charged.
 */
import { describe, expect, it } from "@effect/vitest"
import {
  CallRecorder,
  DomainEvents,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Inspector,
  Output,
  Settings,
  TableHandler
} from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import type { Stores } from "effect-sluice/store/Stores"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as declared from "./support/declared.ts"
import { record } from "./support/declared.ts"
import { chunkOf, cycle, untilEmpty } from "./support/drain.ts"
import * as Postgres from "./support/Postgres.ts"
import { untilIt } from "./support/until.ts"

/** A sample that was taken, with fields that are as the test says. */
class Sample extends Output.make("schemas.clinic.laboratory.sample", {
  schema: Schema.Struct({
    code: Schema.String,
    remark: Schema.optionalKey(Schema.Json),
    levels: Schema.Array(Schema.String)
  })
}) {}

const sample = (code: string, more: { readonly remark?: Schema.Json; readonly levels?: ReadonlyArray<string> } = {}) =>
  Sample.encode({ code, levels: [], ...more })

type Handler = TableHandler.Definition<typeof Sample.schema.Type>

const application = <More>(
  store: Layer.Layer<Stores | More, unknown, Settings.Settings>,
  handler: Handler,
  settings: Partial<Settings.Values> = {}
) =>
  Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
    // before the store's: the client of a server brings settings of its own
    Layer.provide(Settings.layer(settings)),
    Layer.provideMerge(HandlerRegistry.layer()),
    Layer.provide(HandlerPlugin.layer("clinic", Sample, handler)),
    Layer.provide(DomainEvents.layer),
    Layer.provideMerge(store),
    Layer.provideMerge(Settings.layer(settings))
  )

type Application = Layer.Success<ReturnType<typeof application<declared.Read>>>

const rows = declared.Read.use((read) => read.rows("sample"))

const codes = TableHandler.make(Sample, {
  table: "sample",
  object: "clinic.Sample",
  maxAttempts: 1,
  columns: ({ output }) => ({ code: output.code, remark: output.remark, levels: output.levels })
})

const byLevel = TableHandler.make(Sample, {
  table: "sample",
  object: "clinic.Sample",
  maxAttempts: 1,
  each: ({ output }) => output.levels,
  columns: ({ item, output }) => ({ level: item, code: output.code }),
  key: ["level"]
})

/** Two answers are parked, without a charge, and the declaration is told not to fit. */
const chargesNobody = (handler: Handler, words: string) =>
  Effect.gen(function*() {
    for (const id of ["a", "b"]) yield* record(id, yield* sample(id, { levels: ["1"] }))
    expect(yield* untilEmpty).toMatchObject({ persisted: 0, retried: 0, dead: 0 })
    // a beat may take up once more what is parked
    const parked = yield* untilIt(Effect.andThen(untilEmpty, chunkOf("a")), ({ state }) => state === "parked")
    expect(parked.attempts).toBe(0)
    const told = yield* Effect.flip(Inspector.Inspector.use((one) => one.declaration(handler.declaration)))
    expect(told.message).toContain(words)
  })

describe.each(["Postgres 18", "Postgres 15"] as const)("on %s", (name) => {
  const on = (tables: ReadonlyArray<string>, handler: Handler, test: Effect.Effect<void, unknown, Application>) =>
    Effect.provide(test, application(declared.servers[name](tables), handler))

  it.live("a text that is too long for a domain is refused and not cut off, and the domain's default is the column's", () =>
    on(
      [
        "create domain short as varchar(3)",
        "create domain code as short check (value <> 'bad')",
        "create domain remark as jsonb default '\"none\"'",
        "create table sample (id serial primary key, code code, remark remark, levels short[])"
      ],
      codes,
      Effect.gen(function*() {
        yield* record("a", yield* sample("abc", { remark: "a text", levels: ["one", "two"] }))
        yield* record("long", yield* sample("abcd"))
        yield* record("level", yield* sample("abd", { levels: ["three"] }))
        yield* record("bad", yield* sample("bad"))
        yield* record("b", yield* sample("b"))
        expect(yield* untilEmpty).toMatchObject({ claimed: 5, persisted: 2, dead: 3 })
        expect(yield* rows).toMatchObject([
          { code: "abc", remark: "a text", levels: ["one", "two"] },
          { code: "b", remark: "none", levels: [] }
        ])
        expect(JSON.stringify(yield* chunkOf("long"))).toContain("character varying(3)")
        expect(JSON.stringify(yield* chunkOf("level"))).toContain("character varying(3)")
        expect(JSON.stringify(yield* chunkOf("bad"))).toContain("code_check")
      })
    ))

  it.live("a list becomes a domain over an array", () =>
    on(
      [
        "create domain levels as text[] check (cardinality(value) < 3)",
        "create table sample (id serial primary key, code text, remark text, levels levels)"
      ],
      codes,
      Effect.gen(function*() {
        yield* record("a", yield* sample("a", { levels: ["one", "two"] }))
        yield* record("many", yield* sample("many", { levels: ["one", "two", "three"] }))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1, dead: 1 })
        expect(yield* rows).toMatchObject([{ code: "a", levels: ["one", "two"] }])
      })
    ))

  it.live("keys that are the same only as the column rounds them overwrite a row one after another, also of one answer", () =>
    on(
      ["create table sample (id serial primary key, level numeric(3, 1) unique, code text)"],
      byLevel,
      Effect.gen(function*() {
        yield* record("a", yield* sample("a", { levels: ["1.04", "2"] }))
        yield* record("b", yield* sample("b", { levels: ["1.01", "1.02", "3"] }))
        yield* record("c", yield* sample("c", { levels: ["1.03"] }))
        expect(yield* untilEmpty).toMatchObject({ persisted: 3, dead: 0, retried: 0 })
        expect(yield* Effect.map(rows, (all) => all.map(({ code, level }) => [level, code]))).toEqual([
          [1, "c"],
          [2, "a"],
          [3, "b"]
        ])
      })
    ))

  it.live("an answer without elements calls no default and meets no domain: the server persists it by itself", () =>
    Effect.gen(function*() {
      yield* record("none", yield* sample("none"))
      yield* record("a", yield* sample("a", { levels: ["low"] }))
      expect(yield* untilEmpty).toMatchObject({ claimed: 2, persisted: 1, nothingToCreate: 1 })
      yield* cycle
      const [worker] = yield* Inspector.Inspector.use((inspector) => inspector.workers())
      expect(worker?.inside).toMatchObject([{ inside: 2, claimed: {} }])
    }).pipe(Effect.provide(application(
      declared.servers[name]([
        "create domain known_level as text not null",
        "create function no_level() returns text language plpgsql as $$ begin raise 'called'; end $$",
        "create table sample (id serial primary key, level known_level unique default no_level(), code text)"
      ]),
      byLevel,
      // the worker beats at each cycle, and its row tells the counts
      { beatInterval: Duration.zero }
    ))))

  it.live.each<readonly [what: string, handler: Handler, tables: ReadonlyArray<string>, words: string]>([
    [
      "a table with a rule",
      codes,
      [
        "create table sample (id serial primary key, code text, remark text, levels text[])",
        "create table copied (code text)",
        "create rule copied as on insert to sample do also insert into copied values (new.code)"
      ],
      "rules"
    ],
    [
      "a table with a rule that writes nothing",
      codes,
      [
        "create table sample (id serial primary key, code text, remark text, levels text[])",
        "create rule told as on insert to sample do also notify samples"
      ],
      "rules"
    ],
    [
      "a view of two tables",
      codes,
      [
        "create table a (id serial primary key, code text, remark text)",
        "create table b (id int, levels text[])",
        "create view sample as select id, code, remark, levels from a join b using (id)"
      ],
      "cannot insert into view"
    ],
    [
      "a view that computes a column",
      codes,
      [
        "create table a (id serial primary key, code text, remark text, levels text[])",
        "create view sample as select id, upper(code) as code, remark, levels from a"
      ],
      "cannot insert into column \"code\" of view"
    ],
    [
      "a key that is a deferrable constraint",
      byLevel,
      ["create table sample (id serial primary key, level text unique deferrable, code text)"],
      "deferrable"
    ],
    [
      "a key that is a deferrable constraint with more columns than it compares",
      byLevel,
      ["create table sample (id serial primary key, level text, code text, unique (level) include (code) deferrable)"],
      "deferrable"
    ],
    [
      "a required column without a value",
      codes,
      ["create table sample (id serial primary key, code text, remark text, levels text[], ward text not null)"],
      "column \"ward\" has no default and refuses null"
    ],
    [
      "a column without a value, of a domain over one that refuses null",
      codes,
      [
        "create domain bed as text not null",
        "create domain bed_by_window as bed check (value <> '')",
        "create table sample (id serial primary key, code text, remark text, levels text[], bed bed_by_window)"
      ],
      "column \"bed\" has no default and refuses null"
    ],
    [
      "a column that is declared as null, and refuses null",
      TableHandler.make(Sample, {
        table: "sample",
        object: "clinic.Sample",
        maxAttempts: 1,
        columns: ({ output }) => ({ code: output.code, levels: null })
      }),
      ["create table sample (id serial primary key, code text, levels text[] not null)"],
      "column \"levels\" is declared as null, and refuses null"
    ],
    [
      "a domain over bytea",
      codes,
      [
        "create domain scan as bytea",
        "create table sample (id serial primary key, code scan, remark text, levels text[])"
      ],
      "of type bytea"
    ]
  ])("no attempt is charged for %s", ([, handler, tables, words]) =>
    on(
      tables,
      handler,
      chargesNobody(handler, words)
    ))

  // older servers give a partition no identity
  it.live.runIf(name === "Postgres 18")("a partition has the identity of its table", () =>
    on(
      [
        `create table samples (
          id bigint generated always as identity, code text, remark text, levels text[]
        ) partition by list (code)`,
        "create table sample partition of samples for values in ('a', 'b')"
      ],
      codes,
      Effect.gen(function*() {
        for (const code of ["a", "b"]) yield* record(code, yield* sample(code))
        expect(yield* untilEmpty).toMatchObject({ persisted: 2 })
        expect(yield* rows).toMatchObject([{ id: 1, code: "a" }, { id: 2, code: "b" }])
      })
    ))

  /** The store of a role that owns neither database nor tables, in a database with these statements. */
  const ownRole = Effect.fnUntraced(function*(setup: (role: string) => ReadonlyArray<string>) {
    const url = yield* Postgres.freshDatabase(name === "Postgres 18" ? 18 : 15)
    const own = yield* Postgres.asRole(url, "ward")
    const database = new URL(url).pathname.slice(1)
    yield* Postgres.runAt(url, `grant create on database ${database} to ${own.role}`, ...setup(own.role))
    return PgStore.layer.pipe(Layer.provideMerge(Postgres.client(own.url)))
  })

  it.live("no attempt is charged for a sequence that the role may not draw from", () =>
    Effect.gen(function*() {
      const own = yield* ownRole((role) => [
        "create table sample (id serial primary key, code text, remark text, levels text[])",
        `grant select, insert on sample to ${role}`
      ])
      yield* chargesNobody(codes, "no right to use the sequence sample_id_seq").pipe(
        Effect.provide(application(own, codes))
      )
    }).pipe(Effect.scoped))

  it.live("JSON is not read from a text where the role's settings quote all names", () =>
    Effect.gen(function*() {
      const own = yield* ownRole((role) => [
        `alter role ${role} set quote_all_identifiers = on`,
        "create table sample (id serial primary key, code json, remark jsonb, levels jsonb[])",
        `grant all on sample, sample_id_seq to ${role}`
      ])
      yield* Effect.gen(function*() {
        yield* record("a", yield* sample("in words", { remark: "a text", levels: ["low"] }))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1, dead: 0 })
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`select code, remark, levels[1] as level from sample`).toEqual([
          { code: "in words", remark: "a text", level: "low" }
        ])
      }).pipe(Effect.provide(application(own, codes)))
    }).pipe(Effect.scoped))

  it.live("keys that are the same only in the column's collation overwrite a row one after another", () =>
    Effect.gen(function*() {
      yield* record("a", yield* sample("a", { levels: ["low", "LOW"] }))
      yield* record("b", yield* sample("b", { levels: ["Low", "high"] }))
      expect(yield* untilEmpty).toMatchObject({ persisted: 2, dead: 0, retried: 0 })
      expect((yield* rows).map(({ code, level }) => [level, code])).toEqual([["low", "b"], ["high", "b"]])
    }).pipe(Effect.provide(application(
      declared.servers[name]([
        "create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        "create table sample (id serial primary key, level text collate any_case unique, code text)"
      ]),
      TableHandler.make(Sample, {
        table: "sample",
        object: "clinic.Sample",
        maxAttempts: 1,
        each: ({ output }) => output.levels,
        columns: ({ item, output }) => ({ level: item, code: output.code }),
        key: ["level"],
        overwrite: ["code"]
      })
    ))))
})
