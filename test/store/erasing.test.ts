/**
 * Erasing beside those that record, drain, redrive and erase as well, and an erasure that is cut off: nothing of an erased
 * call is left behind, whoever comes first.
 */
import { it } from "@effect/vitest"
import { CallRecorder, ChunkStore, DeadLetters, Erasure, type Inspector } from "effect-sluice"
import * as DomainObject from "effect-sluice/DomainObject"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Statement from "effect/sql/Statement"
import { describe, expect } from "vitest"
import { call, claim, record, settle, statesOf } from "../contract/operators/dialogues.ts"
import { heldOpen, waitsOrEnds } from "../support/heldOpen.ts"
import * as Postgres from "../support/Postgres.ts"

const millers = (callId: string) => ({ ...call(callId), context: { patientId: "Miller" } })
const subject = Erasure.Subject.Context({ key: "patientId", value: "Miller" })
const erase = Erasure.Erasure.use((erasure) => erasure.erase(subject, { because: "asked for", by: "records office" }))

/** Erases beside, and waits until it has found that a chunk is held. */
const erasingBeside = Effect.gen(function*() {
  let looks = 0
  const fiber = yield* erase.pipe(
    Effect.provideService(Statement.CurrentTransformer, (statement) => {
      if (statement.compile()[0].includes("as clear")) looks++
      return Effect.succeed(statement)
    }),
    Effect.forkScoped
  )
  yield* Effect.repeat(Effect.sleep("10 millis"), { until: () => looks > 1 || fiber.pollUnsafe() !== undefined })
  expect(fiber.pollUnsafe()).toBe(undefined)
  return fiber
})

/** Everything in the tables that names the patient, and chunks of erased calls. */
const left = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql`
    select call_id from sluice.service_call c where c::text like '%Miller%' or c.erasure is not null and (
      exists (select from sluice.chunk_queue q where q.call_id = c.call_id)
      or exists (select from sluice.dead_letter d where d.call_id = c.call_id)
      or exists (select from sluice.chunk_failure f where f.call_id = c.call_id)
    )`)

const service = (callId: string) => {
  const { outputs, ...spec } = millers(callId)
  return { outputs, spec }
}

describe.each([15, 18] as const)("erasing, on Postgres %i", (version) => {
  const on = <E>(
    test: Effect.Effect<
      unknown,
      E,
      | Inspector.Inspector
      | ChunkStore.ChunkStore
      | CallRecorder.CallRecorder
      | DeadLetters.DeadLetters
      | Erasure.Erasure
      | SqlClient.SqlClient
      | Scope
    >
  ) =>
    Effect.flatMap(Postgres.migratedDatabase(version), (url) =>
      Effect.scoped(test).pipe(
        Effect.provide(
          CallRecorder.layer.pipe(
            Layer.provideMerge(Layer.fresh(PgStore.layer)),
            Layer.provideMerge(Layer.fresh(Postgres.client(url, { maxConnections: 8 })))
          )
        )
      )).pipe(Effect.scoped)

  it.live(
    "finds its calls among contexts that others have written, also those that the server cannot read",
    () =>
      on(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const erasure = yield* Erasure.Erasure
        const odd = [
          String.raw`{ "note": "\u0000", "patientId" : "Miller" }`,
          String.raw`{ "note": "\ud83d", "patientId" : "Miller" }`,
          String.raw`{ "\udc00": 1, "note": "\ud83d\ude00 \\u0000", "patientId": "Miller" }`,
          String.raw`{ "patientId": "\ud83d\ude00\u0000" }`,
          "[]",
          "7"
        ]
        yield* record(millers("a"))
        for (const [index, context] of odd.entries()) {
          yield* record(call(`odd-${index}`))
          yield* sql`update sluice.service_call set context = ${context}::json where call_id = ${`odd-${index}`}`
        }
        const count = (value: string) =>
          Effect.map(erasure.preview(Erasure.Subject.Context({ key: "patientId", value })), ({ calls }) => calls)
        expect(yield* count("Miller")).toBe(4)
        expect(yield* count("😀\ufffd")).toBe(1)
        expect(yield* erase).toMatchObject({ calls: 4, chunks: 4 })
        expect(yield* count("Miller")).toBe(0)
      })),
    60_000
  )

  it.live("waits for who records one of the calls, and takes what was recorded", () =>
    on(Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      const { spec } = service("a")
      yield* Effect.flip(recorder.run(spec, Effect.fail("the model is away")))
      const recording = yield* heldOpen(record(millers("a")))
      const erasing = yield* Effect.forkScoped(erase)
      yield* waitsOrEnds(erasing)
      yield* recording.end
      expect(yield* Fiber.join(erasing)).toMatchObject({ calls: 1, chunks: 1 })
      expect(yield* left).toEqual([])
    })), 60_000)

  it.live(
    "is waited for by who records or runs one of the calls, and that is then erased",
    () =>
      on(Effect.gen(function*() {
        const recorder = yield* CallRecorder.CallRecorder
        yield* Effect.flip(recorder.run(service("a").spec, Effect.fail("the model is away")))
        yield* record(millers("b"))
        const erasing = yield* heldOpen(erase)
        const recording = yield* Effect.forkScoped(recorder.record(millers("a")))
        yield* waitsOrEnds(recording)
        const running = yield* Effect.forkScoped(
          Effect.flip(recorder.run(service("a").spec, Effect.die("it was paid twice")))
        )
        yield* waitsOrEnds(running, 1)
        yield* erasing.end
        expect(yield* Fiber.join(recording)).toBe("erased")
        expect(yield* Fiber.join(running)).toMatchObject({ _tag: "CallErased" })
        expect(yield* left).toEqual([])
      })),
    60_000
  )

  it.live(
    "takes a chunk from the worker that holds it: the worker's writes are rolled back",
    () =>
      on(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const store = yield* ChunkStore.ChunkStore
        yield* sql`create table note (call_id text)`
        yield* record(millers("a"), call("b"))
        const { chunks, token } = yield* claim
        const began = yield* Latch.make(false)
        const goOn = yield* Latch.make(false)
        const lines = chunks.map((chunk) => ({ chunk, handler: "h", handlerVersion: 1, objects: [] }))
        const persisting = yield* Effect.forkScoped(Effect.flip(store.persist(token, () =>
          Effect.gen(function*() {
            yield* sql`insert into note values ('a'), ('b')`
            yield* began.open
            yield* goOn.await
            return lines
          }))))
        yield* began.await
        // it does not wait for the handler
        expect(yield* erase).toMatchObject({ calls: 1, chunks: 1, objects: [] })
        yield* goOn.open
        expect(yield* Fiber.join(persisting)).toMatchObject({ _tag: "LeaseLost", claimed: 2, held: 1 })
        expect(yield* sql`select * from note`).toEqual([])
        // the other of its batch goes on
        yield* store.settle(token, chunks.map((chunk) => ChunkStore.Settlement.Release({ chunk })))
        expect(yield* settle("persisted")).toEqual(["b"])
        expect(yield* left).toEqual([])
      })),
    60_000
  )

  it.live(
    "comes after a worker that is about to commit: the ledger has it, and its rows are told of",
    () =>
      on(Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        yield* record(millers("a"))
        const { chunks, token } = yield* claim
        const objects = [DomainObject.make("chatlab.Note", "7")]
        // in a transaction of the application's, as with persistNow: all is written, and the commit is to come
        const committing = yield* heldOpen(
          store.persist(
            token,
            () => Effect.succeed(chunks.map((chunk) => ({ chunk, handler: "h", handlerVersion: 1, objects })))
          )
        )
        const erasing = yield* erasingBeside
        yield* committing.end
        expect(yield* Fiber.join(erasing)).toEqual({ calls: 1, chunks: 0, deadLetters: 0, failures: 0, objects })
        expect(yield* statesOf("a")).toEqual(["persisted"])
        expect(yield* left).toEqual([])
      })),
    60_000
  )

  it.live("finds chunks that are moved meanwhile: buried, and redriven", () =>
    on(Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(millers("a"), millers("b"))
      yield* settle(({ key }) => key.callId === "b" ? { dead: "exhausted", message: "no bed for Miller" } : "released")
      const { chunks, token } = yield* claim
      const failure = { handler: "h", kind: "failed", message: "no bed for Miller" } as const
      const moving = yield* heldOpen(Effect.andThen(
        store.settle(
          token,
          chunks.map((chunk) => ChunkStore.Settlement.Bury({ chunk, reason: "exhausted", charge: true, failure }))
        ),
        DeadLetters.DeadLetters.use((letters) => letters.redrive({ callId: "b" }))
      ))
      const erasing = yield* erasingBeside
      yield* moving.end
      expect(yield* Fiber.join(erasing)).toMatchObject({ calls: 2, chunks: 1, deadLetters: 1, failures: 2 })
      expect(yield* left).toEqual([])
    })), 60_000)

  it.live("continues after an interruption when it is run again", () =>
    on(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const ids = Array.from({ length: 1200 }, (_, n) => `call-${String(n).padStart(4, "0")}`)
      yield* record(...ids.map(millers))
      const held = yield* heldOpen(sql`select from sluice.service_call where call_id = ${ids[700]} for update`)
      const erasing = yield* Effect.forkScoped(erase)
      yield* waitsOrEnds(erasing)
      yield* Fiber.interrupt(erasing)
      yield* held.end
      const list = Erasure.Erasure.use((erasure) => erasure.list({ limit: 10 }))
      expect(yield* list).toMatchObject([{ calls: 500, chunks: 1000, finishedAt: null }])
      expect(yield* sql`select from sluice.service_call where erasure is not null`).toHaveLength(500)
      expect(yield* erase).toMatchObject({ calls: 700, chunks: 200 })
      expect((yield* list).map(({ calls, finishedAt }) => [calls, finishedAt === null])).toEqual([[700, false], [
        500,
        true
      ]])
      expect(yield* left).toEqual([])
    })), 60_000)

  it.live("of the same subject twice at once is counted once", () =>
    on(Effect.gen(function*() {
      yield* record(...Array.from({ length: 30 }, (_, n) => millers(`call-${n}`)))
      const both = yield* Effect.all([erase, erase], { concurrency: 2 })
      expect(both.reduce((sum, one) => sum + one.calls, 0)).toBe(30)
      expect(both.reduce((sum, one) => sum + one.chunks, 0)).toBe(30)
      expect(yield* left).toEqual([])
    })), 60_000)
})
