/**
 * Calls that are recorded, and calls that are run. What is refused is in `test/badInput`.
 */
import { it, layer } from "@effect/vitest"
import { CallRecorder, ChunkStore, Inspector, Settings } from "effect-sluice"
import type { RecordedOutput } from "effect-sluice/ServiceCall"
import { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { call, reply, results } from "./contract/operators/dialogues.ts"
import * as inspect from "./support/inspect.ts"
import * as Postgres from "./support/Postgres.ts"

const settings = Settings.layer({ maxResultBytes: 10_000, lease: Duration.minutes(1) })
const recorder = CallRecorder.layer.pipe(Layer.provideMerge(MemoryStore.layer), Layer.provideMerge(settings))
const given = <A, E>(
  test: Effect.Effect<
    A,
    E,
    CallRecorder.CallRecorder | ChunkStore.ChunkStore | Inspector.Inspector | MemoryDatabase | Settings.Settings
  >
) =>
() => Effect.provide(test, recorder)
const viewOf = (callId: string) => inspect.call(callId)

describe("a finished call", () => {
  it.effect(
    "is recorded with all its chunks; the same again is unchanged",
    given(Effect.gen(function*() {
      const { record } = yield* CallRecorder.CallRecorder
      const two = call("a", {
        outputs: [{ schema: reply, version: 1, data: 1 }, { schema: reply, version: 1, part: "second", data: 2 }]
      })
      expect(yield* record(two)).toBe("recorded")
      const before = yield* viewOf("a")
      expect(Option.getOrThrow(before).chunks.map((chunk) => [chunk.key.part, chunk.state])).toEqual([
        ["", "ready"],
        ["second", "ready"]
      ])
      yield* TestClock.adjust("1 minute")
      expect(yield* record(two)).toBe("unchanged")
      expect(yield* viewOf("a")).toEqual(before)
    }))
  )

  it.effect(
    "with the id of another is a conflict that says what to do, and changes nothing",
    given(Effect.gen(function*() {
      const { record } = yield* CallRecorder.CallRecorder
      yield* record(call("a"))
      const before = yield* viewOf("a")
      for (
        const other of [
          call("a", { namespace: "triage" }),
          call("a", {}, { data: "another" }),
          call("a", {}, { version: 2 })
        ]
      ) {
        const error = yield* Effect.flip(record(other))
        expect(error).toMatchObject({ _tag: "CallConflict", callId: "a" })
        expect(error.message).toContain("an id of its own")
        expect(yield* viewOf("a")).toEqual(before)
      }
    }))
  )

  it.effect(
    "among many: the good are recorded, each other comes back with its own error, in the order given",
    given(Effect.gen(function*() {
      const { record, recordMany } = yield* CallRecorder.CallRecorder
      yield* record(call("old"))
      const outcomes = yield* recordMany([
        call(""),
        call("new"),
        call("old", { namespace: "triage" }),
        call("old"),
        call("new"),
        call("bad", {}, { data: "\u0000" }),
        call("last")
      ])
      expect(outcomes.map(Result.match({ onSuccess: (done) => done, onFailure: (error) => error._tag }))).toEqual([
        "CallRefused",
        "recorded",
        "CallConflict",
        "unchanged",
        "unchanged",
        "CallRefused",
        "recorded"
      ])
      expect(yield* recordMany([])).toEqual([])
    }))
  )
})

const onPostgres = CallRecorder.layer.pipe(
  Layer.provideMerge(PgStore.layer),
  Layer.provide(settings),
  Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer())))
)
layer(onPostgres, { excludeTestServices: true, timeout: 60_000 })("in the application's own transaction", (it) => {
  it.effect("its row and the call commit together, or neither does", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { record, recordMany } = yield* CallRecorder.CallRecorder
      yield* sql`create table visit (id text primary key)`
      const visit = (id: string) => sql`insert into visit ${sql.insert({ id })}`
      const visits = Effect.map(
        sql<{ id: string }>`select id from visit order by id`,
        (rows) => rows.map(({ id }) => id)
      )
      const calls = Effect.map(
        sql<{ call_id: string }>`select call_id from sluice.service_call
          join sluice.chunk_queue using (call_id) order by call_id`,
        (rows) => rows.map((row) => row.call_id)
      )

      yield* sql.withTransaction(Effect.andThen(visit("a"), record(call("a"))))
      expect([yield* visits, yield* calls]).toEqual([["a"], ["a"]])

      // the application fails after recording
      const failing = Effect.all([visit("b"), record(call("b")), Effect.fail("the visit is cancelled")])
      expect(yield* Effect.flip(sql.withTransaction(failing))).toBe("the visit is cancelled")
      // or is interrupted
      const reached = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(sql.withTransaction(
        Effect.all([visit("b"), record(call("b")), Deferred.succeed(reached, undefined), Effect.never])
      ))
      yield* Deferred.await(reached)
      yield* Fiber.interrupt(fiber)
      expect([yield* visits, yield* calls]).toEqual([["a"], ["a"]])

      // a refusal or a conflict is an answer: the transaction goes on if the application wants it to
      const outcomes = yield* sql.withTransaction(Effect.gen(function*() {
        yield* visit("c")
        expect(yield* Effect.flip(record(call("a", { namespace: "triage" })))).toMatchObject({ _tag: "CallConflict" })
        return yield* recordMany([call("c"), call("", {}), call("d", {}, { data: "\u0000" })])
      }))
      expect(outcomes.map(Result.isSuccess)).toEqual([true, false, false])
      expect([yield* visits, yield* calls]).toEqual([["a", "c"], ["a", "c"]])

      // and what cannot be recorded takes the application's row with it, if the application lets it
      const refused = sql.withTransaction(Effect.andThen(visit("d"), record(call("d", {}, { data: "\u0000" }))))
      expect(yield* Effect.flip(refused)).toMatchObject({ _tag: "CallRefused" })
      expect(yield* visits).toEqual(["a", "c"])
    }))
})

describe("a call that is run", () => {
  const { outputs, ...spec } = call("a")
  const statusOf = Effect.map(viewOf("a"), Option.map(({ error, status }) => ({ status, error })))
  /** A database that is away for as long as it is told to. */
  const away = (
    verbs: Partial<Record<"record" | "abandon", number>>,
    error: { readonly transient: boolean; readonly code?: string } = { transient: true }
  ) => {
    const down = (operation: "record" | "abandon") =>
      Effect.suspend(() => {
        const times = verbs[operation] ?? 0
        verbs[operation] = times - 1
        return times > 0
          ? Effect.fail(
            new ChunkStore.ChunkStoreError({ operation, ...error, reason: "the server is restarting" })
          )
          : Effect.void
      })
    const flaky = Layer.effect(
      ChunkStore.ChunkStore,
      Effect.map(ChunkStore.ChunkStore, (store) =>
        ({
          ...store,
          record: (calls) => Effect.andThen(down("record"), store.record(calls)),
          abandon: (...run) => Effect.andThen(down("abandon"), store.abandon(...run))
        }) satisfies ChunkStore.ChunkStore["Service"])
    )
    return Effect.provide(CallRecorder.layer.pipe(Layer.fresh, Layer.provide(flaky)))
  }

  it.effect(
    "is recorded with its outputs, and not run again",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      let ran = 0
      const service = Effect.sync(() => {
        ran++
        return outputs
      })
      expect(yield* run(spec, service)).toMatchObject({ ran: true, call: { callId: "a", outputs } })
      expect(yield* run(spec, service)).toMatchObject({ ran: false, call: { callId: "a", outputs } })
      expect(ran).toBe(1)
    }))
  )

  it.effect(
    "fails with the service's error, which is recorded; then it may run again",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      expect(yield* Effect.flip(run(spec, Effect.fail("overloaded" as const)))).toBe("overloaded")
      expect(Option.getOrThrow(yield* statusOf)).toMatchObject({
        status: "failed",
        error: expect.stringContaining("overloaded")
      })
      expect(yield* run(spec, Effect.succeed(outputs))).toMatchObject({ ran: true })
      expect(Option.getOrThrow(yield* statusOf)).toEqual({ status: "succeeded", error: null })
    }))
  )

  it.effect(
    "runs in one place at a time; while it does, its lease is renewed",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const answer = yield* Deferred.make<typeof outputs>()
      const first = yield* Effect.forkChild(run(spec, Deferred.await(answer)))
      yield* TestClock.adjust("5 minutes")
      const error = yield* Effect.flip(run(spec, Effect.succeed(outputs)))
      expect(error).toMatchObject({ _tag: "CallRunning", callId: "a" })
      yield* Deferred.succeed(answer, outputs)
      expect(yield* Fiber.join(first)).toMatchObject({ ran: true })
    }))
  )

  it.effect(
    "that died is taken up after its lease",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const store = yield* ChunkStore.ChunkStore
      // as of a process that was killed: it says nothing more
      yield* store.begin(spec, Duration.minutes(1))
      expect(yield* Effect.flip(run(spec, Effect.succeed(outputs)))).toMatchObject({ _tag: "CallRunning" })
      yield* TestClock.adjust("61 seconds")
      expect(yield* run(spec, Effect.succeed(outputs))).toMatchObject({ ran: true })
    }))
  )

  it.effect(
    "that was interrupted can be run again at once",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const fiber = yield* Effect.forkChild(run(spec, Effect.never))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      expect(yield* run(spec, Effect.succeed(outputs))).toMatchObject({ ran: true })
    }))
  )

  it.effect(
    "whose answer cannot be stored says so, and is recorded as failed",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const exit = yield* Effect.exit(run(spec, Effect.succeed([{ schema: reply, version: 1, data: "\u0000" }])))
      expect(Exit.isFailure(exit)).toBe(true)
      expect(Option.getOrThrow(yield* statusOf)).toMatchObject({
        status: "invalid",
        error: expect.stringContaining("u0000")
      })
    }))
  )

  it.effect(
    "whose answer is of no shape at all is invalid: what was paid is kept and counted",
    given(Effect.gen(function*() {
      const { find, run } = yield* CallRecorder.CallRecorder
      const inspector = yield* Inspector.Inspector
      const answers: ReadonlyArray<unknown> = [null, "text", 7, {}, { length: 1 }, [null], [[]], [{ schema: 7 }], [{}]]
      for (const [index, answer] of answers.entries()) {
        const { outputs: _, ...spec } = call(`odd-${index}`)
        const service = (notes: CallRecorder.Run) =>
          // a service without types may answer anything
          Effect.as(notes.answered({ text: "raw", facts: { inputTokens: 5 } }), answer as ReadonlyArray<RecordedOutput>)
        expect(yield* Effect.flip(run(spec, service))).toMatchObject({ _tag: "CallRefused" })
        expect(Option.getOrThrow(yield* find(spec.callId))).toMatchObject({
          status: "invalid",
          attempts: [{ outcome: "invalid", text: "raw" }]
        })
      }
      expect(yield* inspector.usage({ by: "namespace" })).toMatchObject([
        { calls: answers.length, invalid: answers.length, inputTokens: 5 * answers.length }
      ])
    }))
  )

  it.effect(
    "and whose service gives back no outputs at all is refused, not a crash",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      for (const answer of [undefined, null, 7, "text", {}, [], [null]]) {
        // what callers without types may do
        const error = yield* Effect.flip(run(spec, Effect.succeed(answer as unknown as typeof outputs)))
        expect(error).toMatchObject({ _tag: "CallRefused", callId: "a" })
      }
      const nobody = undefined as unknown as typeof spec
      expect(yield* Effect.flip(run(nobody, Effect.succeed(outputs)))).toMatchObject({
        _tag: "CallRefused",
        path: "call"
      })
    }))
  )

  for (
    const [what, error] of [
      ["the database is away", { transient: true }],
      ["the role's password is being changed", { transient: false, code: "28P01" }],
      ["the pooler has no connection", { transient: false, code: "XX000" }]
    ] as const
  ) {
    it.effect(
      `whose answer is there while ${what} keeps trying: it was paid for`,
      given(Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(
          Effect.flatMap(CallRecorder.CallRecorder, ({ run }) => run(spec, Effect.succeed(outputs))).pipe(
            away({ record: 3 }, error)
          )
        )
        yield* TestClock.adjust("10 seconds")
        expect(yield* Fiber.join(fiber)).toMatchObject({ ran: true })
        expect(Option.getOrThrow(yield* statusOf)).toMatchObject({ status: "succeeded" })
      }))
    )
  }

  it.effect(
    "whose answer does not fit, while the database is away, keeps trying as well",
    given(Effect.gen(function*() {
      const unfit = (notes: CallRecorder.Run) =>
        Effect.andThen(notes.answered({ text: "{", facts: { inputTokens: 5 } }), Effect.fail("unfit" as const))
      const running = Effect.flatMap(CallRecorder.CallRecorder, ({ run }) => Effect.flip(run(spec, unfit)))
      const fiber = yield* Effect.forkChild(running.pipe(away({ abandon: 3 })))
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(fiber)).toBe("unfit")
      const { find } = yield* CallRecorder.CallRecorder
      expect(Option.getOrThrow(yield* find("a"))).toMatchObject({
        status: "invalid",
        attempts: [{ outcome: "invalid", text: "{", facts: { inputTokens: 5 } }]
      })
    }))
  )

  it.effect(
    "whose database stays away says so in the end, and can be run again after its lease",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const fiber = yield* Effect.forkChild(
        Effect.flip(
          Effect.flatMap(CallRecorder.CallRecorder, ({ run }) => run(spec, Effect.succeed(outputs))).pipe(
            away({ record: 99 })
          )
        )
      )
      yield* TestClock.adjust("2 minutes")
      expect(yield* Fiber.join(fiber)).toMatchObject({ _tag: "ChunkStoreError", transient: true })
      yield* TestClock.adjust("1 minute")
      expect(yield* run(spec, Effect.succeed(outputs))).toMatchObject({ ran: true })
    }))
  )

  it.effect(
    "fails with its service's error also when that cannot be recorded",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const error = Effect.flatMap(
        CallRecorder.CallRecorder,
        ({ run }) => run(spec, Effect.fail("overloaded" as const))
      )
      expect(yield* Effect.flip(error.pipe(away({ abandon: 99 })))).toBe("overloaded")
      yield* TestClock.adjust("61 seconds")
      expect(yield* run(spec, Effect.succeed(outputs))).toMatchObject({ ran: true })
    }))
  )

  it.effect(
    "is refused before its service is asked, when it could never be recorded",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const asked = Effect.die("the service was asked")
      expect(yield* Effect.flip(run({ ...spec, namespace: "" }, asked))).toMatchObject({ _tag: "CallRefused" })
      expect(yield* viewOf("a")).toEqual(Option.none())
    }))
  )

  it.effect(
    "and recorded with other outputs meanwhile is a conflict: what came first stays",
    given(Effect.gen(function*() {
      const { record, run } = yield* CallRecorder.CallRecorder
      const other = record(call("a", {}, { schema: results }))
      expect(yield* Effect.flip(run(spec, Effect.as(other, outputs)))).toMatchObject({ _tag: "CallConflict" })
      expect(Option.getOrThrow(yield* viewOf("a"))).toMatchObject({
        status: "succeeded",
        outputs: [{ schema: results }]
      })
    }))
  )

  it.effect(
    "under the id of another call is a conflict, and its service is not asked",
    given(Effect.gen(function*() {
      const { record, run } = yield* CallRecorder.CallRecorder
      const asked = Effect.die("the service was asked")
      yield* record(call("a"))
      const other = { ...spec, input: { user_message: "And here?" } }
      expect(yield* Effect.flip(run(other, asked))).toMatchObject({ _tag: "CallConflict", callId: "a" })
      expect(yield* run(spec, asked)).toMatchObject({ ran: false, call: { ...spec, outputs } })
      // also while that one runs
      const { outputs: _, ...running } = call("b")
      const fiber = yield* Effect.forkChild(run(running, Effect.never))
      yield* TestClock.adjust("1 second")
      expect(yield* Effect.flip(run({ ...running, namespace: "triage" }, asked))).toMatchObject({
        _tag: "CallConflict"
      })
      yield* Fiber.interrupt(fiber)
    }))
  )

  it.effect(
    "inside a transaction is refused before its service is asked: the answer would be lost with it",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const db = yield* MemoryDatabase
      const error = yield* Effect.flip(db.transaction(run(spec, Effect.die("the service was asked"))))
      expect(error).toMatchObject({ _tag: "RunInTransaction", callId: "a" })
      expect(error.message).toContain("Run it before the transaction")
      expect(yield* viewOf("a")).toEqual(Option.none())
      // what it says to do: the answer is there whatever becomes of the transaction
      const answer = yield* run(spec, Effect.succeed(outputs))
      yield* Effect.flip(db.transaction(Effect.fail("the visit is cancelled")))
      expect(yield* run(spec, Effect.die("asked again"))).toMatchObject({ ran: false, call: { outputs } })
      expect(answer.ran).toBe(true)
    }))
  )
})
