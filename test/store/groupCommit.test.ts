/**
 * Group commit: calls recorded one by one at the same time share statements, and nobody's outcome depends on the others.
 *
 * Calls that are recorded by `together` begin in one go: the first is a statement of its own, unless one is under way, and
 * all others wait for it, so that they are one group.
 */
import { it, layer } from "@effect/vitest"
import { CallRecorder, ServiceCall, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as Tracer from "effect/Tracer"
import { expect } from "vitest"
import { call, claim, idsOf, reply } from "../contract/operators/dialogues.ts"
import { heldOpen, waitsOrEnds } from "../support/heldOpen.ts"
import * as Postgres from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

const recorderOf = (options: Settings.Options = {}) =>
  CallRecorder.layer.pipe(Layer.provideMerge(PgStore.layer), Layer.provide(Settings.layer(options)))
const recorder = Layer.unwrap(Effect.sync(() => recorderOf().pipe(Layer.provideMerge(Postgres.layer()))))

/**
 * Counts statements, also those that fail. The tables refuse calls of a closed ward and outputs of emoji, take long for a
 * slow one, and lose the connection over a call that says so.
 */
const hospital = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create sequence if not exists tries`
  yield* sql`create or replace function counts() returns trigger language plpgsql as $$
    begin perform nextval('public.tries'); return null; end $$`
  yield* sql`create or replace trigger counts before insert on sluice.service_call
    for each statement execute function counts()`
  yield* sql`create or replace function is_strict() returns trigger language plpgsql as $$
    begin
      if new.context ->> 'ward' = 'closed' then raise exception 'the ward is closed'; end if;
      if new.context ->> 'ward' = 'slow' then perform pg_sleep(0.5); end if;
      if new.context ->> 'ward' = 'cut off' then perform pg_terminate_backend(pg_backend_pid()); end if;
      if new.outputs::text like '%🩺%' then
        raise exception 'character with byte sequence 0xf0 0x9f has no equivalent' using errcode = '22P05';
      end if;
      return new;
    end $$`
  yield* sql`create or replace trigger is_strict before insert or update on sluice.service_call
    for each row execute function is_strict()`
})
const last = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => Effect.map(sql<{ n: number }>`select nextval('tries')::int as n`, ([row]) => row!.n)
)
/** How many statements an effect takes to record. */
const counted = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
  const before = yield* last
  const result = yield* effect
  return { result, statements: (yield* last) - before - 1 }
})

const record = (one: ServiceCall.ServiceCall) => CallRecorder.CallRecorder.use((recorder) => recorder.record(one))
/** What each comes to, in words. */
const together = (...calls: ReadonlyArray<ServiceCall.ServiceCall>) =>
  Effect.forEach(
    calls,
    (one) => Effect.match(record(one), { onSuccess: (word): string => word, onFailure: ({ _tag }) => _tag }),
    { concurrency: "unbounded" }
  )
const many = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => call(`${prefix}-${index}`))
const isRecorded = (id: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => Effect.map(sql`select 1 from sluice.service_call where call_id = ${id}`, (rows) => rows.length === 1)
  )
/** Somebody's transaction that has recorded a call and is not yet committed. */
const held = (id: string) => heldOpen(record(call(id)))
const times = (count: number, word: string) => Array.from({ length: count }, () => word)

layer(recorder, { excludeTestServices: true, timeout: 60_000 })("calls recorded at the same time", (it) => {
  it.effect("share statements of 500 calls or 4 MiB, and each has its own outcome", () =>
    Effect.gen(function*() {
      yield* hospital
      const first = yield* counted(together(...many("share", 601)))
      expect(first).toEqual({ result: times(601, "recorded"), statements: 3 })
      // the first alone, then as one group or, from 16 on, as two
      expect((yield* counted(together(...many("few", 16)))).statements).toBe(2)
      expect((yield* counted(together(...many("halves", 17)))).statements).toBe(3)
      const again = yield* together(
        ...many("share", 3),
        call("share-3", { input: "another" }),
        call("share-new"),
        call("")
      )
      expect(again).toEqual(["unchanged", "unchanged", "unchanged", "CallConflict", "recorded", "CallRefused"])
      // the first alone, then one of the others after the other
      const large = many("large", 4).map((one) => ({ ...one, input: "x".repeat(3_000_000) }))
      expect(yield* counted(together(...large))).toEqual({ result: times(4, "recorded"), statements: 4 })
    }))

  it.effect("of one id behave as if recorded one after the other", () =>
    Effect.gen(function*() {
      const one = call("same")
      const outcomes = yield* together(call("before"), one, one, call("same", { input: "another" }), one)
      expect(outcomes).toEqual(["recorded", "recorded", "unchanged", "CallConflict", "unchanged"])
      // the first is refused: the other is another call
      const closed = call("closed", { context: { ward: "closed" } })
      expect(yield* together(call("before-2"), closed, call("closed"), closed))
        .toEqual(["recorded", "CallRefused", "recorded", "CallRefused"])
    }))

  it.effect("are recorded beside those that the database refuses, for a few statements more", () =>
    Effect.gen(function*() {
      const calls = many("mate", 64)
      calls[20] = call("mate-20", { context: { ward: "closed" } })
      calls[40] = call("mate-40", {}, { data: { text: "🩺" } })
      const { result, statements } = yield* counted(together(...calls))
      expect(result.map((word, index) => [index, word]).filter(([, word]) => word !== "recorded"))
        .toEqual([[20, "CallRefused"], [40, "CallRefused"]])
      // the first alone, and for each of two of 63 twice the logarithm
      expect(statements).toBeLessThanOrEqual(2 + 2 * 2 * 6)
      expect(yield* Effect.flip(record(calls[20]!))).toMatchObject({
        message: expect.stringContaining("ward is closed")
      })
    }))

  it.effect("do not wait for a lock that one of them waits for", () =>
    Effect.gen(function*() {
      const other = yield* held("held")
      const waiting = yield* Effect.forkChild(record(call("held")), { startImmediately: true })
      // alone under way, and within a group
      expect(yield* together(...many("behind", 20))).toEqual(times(20, "recorded"))
      const group = yield* Effect.forkChild(
        counted(Effect.all([together(...many("beside", 20)), record(call("held"))], { concurrency: 2 })),
        { startImmediately: true }
      )
      const mates = yield* Effect.forEach(many("beside", 20), ({ callId }) =>
        untilIt(isRecorded(callId), (recorded) => recorded))
      expect(mates).toHaveLength(20)
      expect(waiting.pollUnsafe()).toBeUndefined()
      yield* other.end
      expect(yield* Fiber.join(waiting)).toBe("unchanged")
      const { result, statements } = yield* Fiber.join(group)
      expect(result).toEqual([times(20, "recorded"), "unchanged"])
      // the first alone, the group, and each of the group alone
      expect(statements).toBeLessThanOrEqual(1 + 1 + 20)
    }).pipe(Effect.scoped))

  it.effect("withdraw when their caller is interrupted", () =>
    Effect.gen(function*() {
      const other = yield* held("occupied")
      const first = yield* Effect.forkChild(record(call("occupied")), { startImmediately: true })
      // not sent yet: nothing happens between the two lines
      const gone = yield* Effect.forkChild(record(call("gone")), { startImmediately: true })
      gone.interruptUnsafe()
      expect(Exit.hasInterrupts(yield* Fiber.await(gone))).toBe(true)
      expect(yield* together(...many("stay", 5))).toEqual(times(5, "recorded"))
      expect(yield* isRecorded("gone")).toBe(false)
      // within a group that waits: the others stay, and nobody sends it again
      const [left, leaving] = yield* Effect.forEach(["stay-a", "occupied"], (id) =>
        Effect.forkChild(record(call(id)), { startImmediately: true }))
      yield* waitsOrEnds(leaving!, 1)
      yield* Fiber.interrupt(leaving!)
      expect(yield* Fiber.join(left!)).toBe("recorded")
      yield* other.end
      expect(yield* Fiber.join(first)).toBe("unchanged")
    }).pipe(Effect.scoped))

  it.effect("share an outage, and may be recorded again", () =>
    Effect.gen(function*() {
      const calls = [...many("outage", 5), call("outage-5", { context: { ward: "cut off" } })]
      const [first, ...others] = yield* together(...calls)
      expect(others).toEqual(times(5, "ChunkStoreError"))
      expect(yield* Effect.flip(record(calls[5]!))).toMatchObject({ operation: "record", transient: true })
      expect(yield* together(...many("outage", 5))).toEqual([
        first === "recorded" ? "unchanged" : "recorded",
        ...times(4, "recorded")
      ])
    }))

  it.effect("are no part of it within a caller's transaction", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const rolledBack = Effect.flip(sql.withTransaction(
        Effect.andThen(together(...many("inside", 3)), Effect.fail("rolled back" as const))
      ))
      const [inside, outside] = yield* Effect.all([rolledBack, together(...many("outside", 3))], { concurrency: 2 })
      expect(inside).toBe("rolled back")
      expect(outside).toEqual(times(3, "recorded"))
      expect(yield* Effect.forEach(many("inside", 3), ({ callId }) => isRecorded(callId))).toEqual([
        false,
        false,
        false
      ])
    }))

  it.effect("keep the order in which each fiber records", () =>
    Effect.gen(function*() {
      yield* claim
      yield* Effect.forEach(
        Array.from({ length: 16 }, (_, fiber) => fiber),
        (fiber) => Effect.forEach(many(`fiber-${fiber}`, 12), record, { discard: true }),
        { concurrency: "unbounded", discard: true }
      )
      const ids = idsOf((yield* claim).chunks)
      expect(ids).toHaveLength(16 * 12)
      for (let fiber = 0; fiber < 16; fiber++) {
        expect(ids.filter((id) => id.startsWith(`fiber-${fiber}-`))).toEqual(
          many(`fiber-${fiber}`, 12).map(({ callId }) => callId)
        )
      }
    }))

  it.effect("by `run` share the statements of their ends", () =>
    Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const specs = many("run", 20).map(({ callId, namespace, service }) => ({ callId, namespace, service }))
      let begun = 0
      // all services end at the same time
      const service = Effect.suspend(() => {
        begun++
        return Effect.yieldNow
      }).pipe(
        Effect.andThen(Effect.repeat(Effect.yieldNow, { until: () => begun === 20 })),
        Effect.as([{ schema: reply, version: 1, data: { text: "It hurts." } }])
      )
      const { result, statements } = yield* counted(
        Effect.forEach(specs, (spec) => run(spec, service), { concurrency: "unbounded" })
      )
      expect(result.every(({ ran }) => ran)).toBe(true)
      // 20 begin
      expect(statements).toBeLessThanOrEqual(20 + 10)
    }))

  it.effect("have spans: the group's links to the request of each", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      yield* Effect.forEach(
        many("traced", 4),
        (one) => Effect.withSpan(record(one), `request ${one.callId}`),
        { concurrency: "unbounded" }
      ).pipe(Effect.withTracer(tracer))
      const [group, ...others] = spans.filter(({ name }) => name === "ChunkStore.record")
      expect(others).toEqual([])
      expect(Option.isNone(group!.parent)).toBe(true)
      const requests = group!.links.map(({ span }) =>
        span._tag === "Span"
          ? Option.map(span.parent, (parent) => parent._tag === "Span" ? parent.name : "")
          : Option.none()
      )
      expect(requests.slice(-3)).toEqual(["traced-1", "traced-2", "traced-3"].map((id) => Option.some(`request ${id}`)))
      expect(group!.attributes.get("sluice.calls")).toBe(requests.length)
    }))
})

layer(Layer.unwrap(Effect.sync(() => Postgres.layer())), { excludeTestServices: true, timeout: 60_000 })(
  "calls recorded at the same time",
  (it) => {
    const fresh = (options?: Settings.Options) =>
      Effect.map(Layer.build(Layer.fresh(recorderOf(options))), Context.get(CallRecorder.CallRecorder))

    it.effect("by two processes, in opposite order, are recorded once and do not deadlock", () =>
      Effect.gen(function*() {
        const processes = [yield* fresh(), yield* fresh()]
        for (let round = 0; round < 10; round++) {
          const calls = many(`both-${round}`, 200)
          const outcomes = yield* Effect.forEach(
            processes,
            (one, index) =>
              Effect.forEach(index === 0 ? calls : calls.toReversed(), one.record, { concurrency: "unbounded" }),
            {
              concurrency: 2
            }
          )
          expect(outcomes.flat().filter((outcome) => outcome === "recorded")).toHaveLength(200)
          expect(outcomes.flat().filter((outcome) => outcome === "unchanged")).toHaveLength(200)
        }
      }).pipe(Effect.scoped))

    it.effect("have a statement each when SLUICE_GROUP_COMMIT is off", () =>
      Effect.gen(function*() {
        const one = yield* fresh({ groupCommit: false })
        yield* hospital
        const { statements } = yield* counted(
          Effect.forEach(many("off", 20), one.record, { concurrency: "unbounded" })
        )
        expect(statements).toBe(20)
      }).pipe(Effect.scoped))
  }
)

it.live(
  "calls recorded at the same time are recorded beside one that takes longer than the server allows",
  () =>
    Effect.gen(function*() {
      const url = yield* Postgres.migratedDatabase()
      yield* Effect.provide(hospital, Layer.fresh(Postgres.client(url)), { local: true })
      yield* Postgres.runAt(url, `alter database ${new URL(url).pathname.slice(1)} set statement_timeout = '200ms'`)
      const slow = call("long-3", { context: { ward: "slow" } })
      const results = yield* Effect.forEach(
        [...many("before", 3), slow, ...many("after", 3)],
        (one) => Effect.result(record(one)),
        { concurrency: "unbounded" }
      ).pipe(
        Effect.provide(
          recorderOf({ trusted: ["trigger service_call.counts", "trigger service_call.is_strict"] }).pipe(
            Layer.provide(Layer.fresh(Postgres.client(url)))
          )
        )
      )
      expect(results.map((result) => result._tag)).toEqual([...times(3, "Success"), "Failure", ...times(3, "Success")])
      expect(results[3]).toMatchObject({ failure: { operation: "record", code: "57014", transient: true } })
    }).pipe(Effect.scoped),
  60_000
)
