/**
 * A database that refuses single calls, by a constraint or a trigger that somebody has put on the tables or because it does
 * not take a value: each comes back with the reason, and the calls beside it are recorded.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, ServiceCall } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import { call, claim, idsOf, reply } from "../contract/operators/dialogues.ts"
import * as inspect from "../support/inspect.ts"
import * as Postgres from "../support/Postgres.ts"

const recorder = Layer.unwrap(
  Effect.sync(() => CallRecorder.layer.pipe(Layer.provideMerge(PgStore.layer), Layer.provideMerge(Postgres.layer())))
)

/** The tables refuse calls of a closed ward, and outputs of emoji. `tries` counts the statements, also those that fail. */
const refusing = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create sequence tries`
  yield* sql`create function counts() returns trigger language plpgsql as $$
    begin perform nextval('public.tries'); return null; end $$`
  yield* sql`create trigger counts before insert on sluice.service_call for each statement execute function counts()`
  yield* sql`alter table sluice.service_call add constraint ward_is_open check (context ->> 'ward' is distinct from 'closed')`
  yield* sql`create function no_emoji() returns trigger language plpgsql as $$
    begin
      if new.outputs::text like '%🩺%' then
        raise exception 'character with byte sequence 0xf0 0x9f has no equivalent' using errcode = '22P05';
      end if;
      return new;
    end $$`
  yield* sql`create trigger no_emoji before insert or update on sluice.service_call for each row execute function no_emoji()`
})

const closed = (id: string) => call(id, { context: { ward: "closed" } })
const emoji = (id: string) => call(id, {}, { data: { text: "🩺" } })
const words = (results: ReadonlyArray<Result.Result<string, { readonly _tag: string }>>) =>
  results.map(Result.match({ onSuccess: (what) => what, onFailure: ({ _tag }) => _tag }))
const many = (prefix: string, count: number, isBad: (index: number) => boolean) =>
  Array.from({ length: count }, (_, index) => isBad(index) ? emoji(`${prefix}-${index}`) : call(`${prefix}-${index}`))
/** How many statements it took. */
const counted = Effect.fnUntraced(function*(calls: ReadonlyArray<ServiceCall.ServiceCall>) {
  const sql = yield* SqlClient.SqlClient
  const { recordMany } = yield* CallRecorder.CallRecorder
  const last = Effect.map(sql<{ n: number }>`select nextval('tries')::int as n`, ([row]) => row!.n)
  const before = yield* last
  const results = words(yield* recordMany(calls))
  return { results, statements: (yield* last) - before - 1 }
})

layer(recorder, { excludeTestServices: true, timeout: 60_000 })("a call that the database refuses", (it) => {
  it.effect("comes back with the reason, and those beside it are recorded, in the order given", () =>
    Effect.gen(function*() {
      yield* refusing
      const { record, recordMany } = yield* CallRecorder.CallRecorder
      const results = yield* recordMany([
        call("a"),
        emoji("b"),
        call("c"),
        closed("d"),
        call("a"),
        call("e"),
        emoji("b")
      ])
      expect(words(results)).toEqual([
        "recorded",
        "CallRefused",
        "recorded",
        "CallRefused",
        "unchanged",
        "recorded",
        "CallRefused"
      ])
      expect(Result.getOrThrow(Result.flip(results[1]!)).message).toBe(
        "call \"b\" cannot be recorded: call is refused by the database: " +
          "character with byte sequence 0xf0 0x9f has no equivalent (22P05)"
      )
      expect(Result.getOrThrow(Result.flip(results[3]!)).message).toMatch(/ward_is_open.*23514/)
      expect(yield* Effect.flip(record(emoji("b")))).toMatchObject({ _tag: "CallRefused", callId: "b", path: "call" })
      // of two of one id the first is refused: the other is another call
      expect(words(yield* recordMany([emoji("f"), call("f"), call("f")]))).toEqual([
        "CallRefused",
        "recorded",
        "unchanged"
      ])
      expect(idsOf((yield* claim).chunks)).toEqual(["a", "c", "e", "f"])
      expect(yield* inspect.call("b")).toEqual(Option.none())
    }))

  it.effect("costs its mates the logarithm of their number, and many of them no more than twice", () =>
    Effect.gen(function*() {
      const one = yield* counted(many("one", 256, (index) => index === 77))
      expect(one.results.filter((result) => result === "recorded")).toHaveLength(255)
      expect(one.statements).toBeLessThanOrEqual(2 * 8 + 1)
      const all = yield* counted(many("all", 64, () => true))
      expect(new Set(all.results)).toEqual(new Set(["CallRefused"]))
      expect(all.statements).toBeLessThanOrEqual(2 * 64)
      expect((yield* counted(many("none", 64, () => false))).statements).toBe(1)
    }))

  it.effect("leaves the caller's transaction as it was, where several are recorded", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { record, recordMany } = yield* CallRecorder.CallRecorder
      const inside = yield* sql.withTransaction(Effect.gen(function*() {
        const results = words(yield* recordMany([call("in-1"), emoji("in-2"), call("in-3")]))
        return [...results, yield* record(call("in-4"))]
      }))
      expect(inside).toEqual(["recorded", "CallRefused", "recorded", "recorded"])
      // one alone is like every other statement of the transaction that fails
      expect(yield* Effect.flip(sql.withTransaction(Effect.andThen(record(call("in-5")), record(emoji("in-6"))))))
        .toMatchObject({ _tag: "ChunkStoreError", code: "22P05", transient: false })
      const ids = yield* sql<{ call_id: string }>`
        select call_id from sluice.service_call where call_id like 'in-%' order by 1`
      expect(ids.map((row) => row.call_id)).toEqual(["in-1", "in-3", "in-4"])
    }))

  it.effect("is not run, and a call whose answer is refused is recorded as invalid", () =>
    Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const { outputs: _, ...spec } = closed("run-1")
      const asked = Effect.die(new Error("the service was asked"))
      expect(yield* Effect.flip(run(spec, asked))).toMatchObject({ _tag: "CallRefused", callId: "run-1" })
      expect(yield* inspect.call("run-1")).toEqual(Option.none())
      const answer = Effect.succeed([{ schema: reply, version: 1, data: "🩺" }])
      expect(yield* Effect.flip(run({ ...spec, callId: "run-2", context: {} }, answer))).toMatchObject({
        _tag: "CallRefused"
      })
      expect(Option.getOrThrow(yield* inspect.call("run-2"))).toMatchObject({
        status: "invalid",
        error: expect.stringContaining("22P05")
      })
    }))

  it.effect("is not one that meets a database which is in order for nobody", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { recordMany } = yield* CallRecorder.CallRecorder
      const failing = Effect.flip(recordMany([call("late-1"), call("late-2")]))
      // as after a restore that forgot the sequence
      yield* sql`select setval('sluice.chunk_seq', 1)`
      expect(yield* failing).toMatchObject({ _tag: "ChunkStoreError", code: "23505" })
      yield* sql`alter sequence sluice.chunk_seq restart with 1000000`
      yield* sql`alter table sluice.service_call rename to elsewhere`
      expect(yield* failing).toMatchObject({ _tag: "ChunkStoreError", code: "42P01" })
    }))
})
