/**
 * The end of a claim, on every store: handlers' writes, ledger and settlement together or not at all, and only by the
 * one who holds the claim.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as ChunkStore from "../../ChunkStore.ts"
import type { Claim, ClaimedChunk, Persisted, Settlement } from "../../ChunkStore.ts"
import * as DomainObject from "../../DomainObject.ts"
import { call, claim, idsOf, keyOf, record, settle, statesOf } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"
import { Rows, Time } from "./services.ts"

const line = (chunk: ClaimedChunk, ...ids: ReadonlyArray<string>): Persisted => ({
  chunk,
  handler: "chatlab/patient-reply",
  handlerVersion: 7,
  objects: ids.map((id) => DomainObject.make("chatlab.Message", id))
})
const write = (claim: Claim) =>
  Effect.flatMap(
    Rows,
    (rows) =>
      Effect.forEach(claim.chunks, (chunk) => Effect.as(rows.add(chunk.key.callId), line(chunk, chunk.key.callId)))
  )
const failure = { handler: "h", kind: "failed", message: "no" } as const

export const persisting = topic("persisting", (test) => {
  test("the handler's writes, the ledger row and the settlement are one commit", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      yield* record(call("a"), call("b"))
      const claimed = yield* claim
      yield* store.persist(claimed.token, () => write(claimed))
      expect(yield* rows.list).toEqual(["a", "b"])
      expect(yield* store.ledger([keyOf("a"), keyOf("b"), keyOf("c")])).toMatchObject([
        { key: keyOf("a"), handler: "chatlab/patient-reply", handlerVersion: 7, objects: [{ id: "a" }] },
        { key: keyOf("b") }
      ])
      expect(yield* statesOf("a")).toEqual(["persisted"])
    }))

  test("persist begins its work only when it is run, and again each time that it is run", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      let begun = 0
      const persist = store.persist("018f3d2a-7c1e-7000-8000-000000000001", () => {
        begun++
        return Effect.succeed([])
      })
      expect(begun).toBe(0)
      yield* Effect.andThen(persist, persist)
      expect(begun).toBe(2)
    }))

  test("when the work fails, throws or is interrupted, nothing is written and the claim is unchanged", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      yield* record(call("a"))
      const claimed = yield* claim
      const ends = [Effect.fail("no"), Effect.die(new Error("bug")), Effect.interrupt]
      for (const end of ends) {
        const exit = yield* Effect.exit(store.persist(claimed.token, () => Effect.andThen(write(claimed), end)))
        expect(Exit.isFailure(exit)).toBe(true)
      }
      expect(yield* rows.list).toEqual([])
      expect(yield* store.ledger([keyOf("a")])).toEqual([])
      yield* store.persist(claimed.token, () => write(claimed))
      expect(yield* rows.list).toEqual(["a"])
    }))

  test("an effect that the work registers for the commit runs after the commit, and not after a rollback", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(call("a"))
      const claimed = yield* claim
      const told: Array<string> = []
      const persist = (end: string, then: Effect.Effect<void, string>) =>
        store.persist(
          claimed.token,
          (transaction) =>
            transaction.afterCommit(Effect.sync(() => void told.push(end))).pipe(
              Effect.andThen(write(claimed)),
              Effect.tap(() => then)
            )
        )
      yield* Effect.exit(persist("rolled back", Effect.fail("no")))
      expect(told).toEqual([])
      yield* persist("committed", Effect.sync(() => expect(told).toEqual([])))
      expect(told).toEqual(["committed"])
    }))

  test("a worker that lost its lease can change nothing, with any verb", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      yield* record(call("a"))
      const late = yield* claim
      yield* (yield* Time).pass("61 seconds")
      const other = yield* claim
      expect(idsOf(other.chunks)).toEqual(["a"])

      const lost = yield* Effect.flip(store.persist(late.token, () => write(late)))
      expect(lost).toMatchObject({ _tag: "LeaseLost", claimed: 1, held: 0 })
      const [chunk] = late.chunks
      if (chunk === undefined) throw new Error("nothing claimed")
      const settlements: ReadonlyArray<Settlement> = [
        { _tag: "Retry", chunk, delay: Duration.zero, failure },
        { _tag: "Park", chunk, reason: "no-handler" },
        { _tag: "Bury", chunk, reason: "rejected", charge: true, failure },
        { _tag: "Already", chunk },
        { _tag: "Release", chunk }
      ]
      for (const settlement of settlements) expect(yield* store.settle(late.token, [settlement])).toEqual([])
      expect(yield* statesOf("a")).toEqual(["in-flight"])
      expect(Option.getOrThrow(yield* inspect.call("a")).chunks[0]).toMatchObject({ attempts: 0, failures: [] })

      yield* store.persist(other.token, () => write(other))
      expect(yield* Effect.flip(store.persist(late.token, () => write(late)))).toMatchObject({ _tag: "LeaseLost" })
      expect(yield* rows.list).toEqual(["a"])
    }))

  test("after the lease has ended its holder cannot charge an attempt, even if nobody else has claimed the chunk", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(call("a"))
      const { chunks: [chunk], token } = yield* claim
      if (chunk === undefined) throw new Error("nothing claimed")
      const charges: ReadonlyArray<Settlement> = [
        { _tag: "Retry", chunk, delay: Duration.zero, failure },
        { _tag: "Bury", chunk, reason: "exhausted", charge: true, failure }
      ]
      yield* (yield* Time).pass("61 seconds")
      for (const charge of charges) expect(yield* store.settle(token, [charge])).toEqual([])
      const view = Effect.map(inspect.call("a"), (found) => Option.getOrThrow(found).chunks[0])
      expect(yield* view).toMatchObject({ state: "ready", attempts: 0, failures: [], death: null })
      // what costs nothing may still be said
      const release: Settlement = { _tag: "Release", chunk }
      expect(yield* store.settle(token, [release])).toEqual([{ settlement: release, freesKey: false }])
      expect(yield* view).toMatchObject({ state: "ready", attempts: 0, crashes: 0, failures: [] })
    }))

  test("persist of a chunk that is in the ledger fails with AlreadyPersisted, and after a lost lease with LeaseLost", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      // by hand, before it is recorded
      yield* store.once({ key: keyOf("a"), namespace: "chatlab", handler: "once" }, Effect.succeed([]))
      yield* record(call("a"), call("b"), call("c"))
      const claimed = yield* claim
      expect([...idsOf(claimed.chunks)].sort()).toEqual(["a", "b", "c"])
      const persist = store.persist(claimed.token, () => write(claimed))
      expect(yield* Effect.flip(persist)).toMatchObject({ _tag: "AlreadyPersisted", claimed: 3, kept: 2 })
      expect(yield* rows.list).toEqual([])
      // nothing was changed: the others are held as before, until their lease is lost
      for (const id of ["b", "c"]) expect(yield* statesOf(id)).toEqual(["in-flight"])
      yield* (yield* Time).pass("61 seconds")
      yield* claim
      yield* claim
      yield* claim
      expect(yield* Effect.flip(persist)).toMatchObject({ _tag: "LeaseLost", claimed: 3, held: 0 })
      expect(yield* rows.list).toEqual([])
    }))

  test("a chunk in the ledger is not persisted again", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      yield* record(call("a"), call("b"))
      const claimed = yield* claim
      // somebody else does the one, outside of all claims, and its row in the queue is left over
      const [first, second] = claimed.chunks
      if (first === undefined || second === undefined) throw new Error("nothing claimed")
      yield* store.persist(claimed.token, () => Effect.map(write({ ...claimed, chunks: [first] }), (lines) => lines))
      yield* store.once({ key: keyOf("b"), namespace: "chatlab", handler: "once" }, Effect.succeed([]))
      const error = yield* Effect.flip(store.persist(claimed.token, () => write({ ...claimed, chunks: [second] })))
      expect(["AlreadyPersisted", "LeaseLost"]).toContain(error instanceof Object && "_tag" in error ? error._tag : "")
      expect(yield* rows.list).toEqual(["a"])
    }))

  test("chunks that the work leaves out stay claimed", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(call("a"), call("b"))
      const claimed = yield* claim
      yield* store.persist(claimed.token, () => Effect.succeed(claimed.chunks.slice(0, 1).map((chunk) => line(chunk))))
      expect(yield* statesOf("a")).toEqual(["nothing-to-create"])
      expect(yield* statesOf("b")).toEqual(["in-flight"])
      yield* store.persist(claimed.token, () => Effect.succeed([]))
    }))

  test("a statement is attributed to the run that sent it, and to no other run", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      yield* record(call("a"))
      const claimed = yield* claim
      const seen: Array<boolean> = []
      yield* store.persist(claimed.token, ({ watch }) =>
        Effect.gen(function*() {
          const silent = watch("batch")
          yield* silent.of(Effect.void)
          const reader = watch("batch")
          yield* reader.of(rows.list)
          const writer = watch("batch")
          const lines = yield* writer.of(write(claimed))
          seen.push(silent.sent, reader.sent, writer.sent)
          return lines
        }))
      expect(seen).toEqual([false, true, true])
    }))

  test("a database error that a handler ignores does not commit half a batch", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      yield* record(call("a"))
      const claimed = yield* claim
      const exit = yield* Effect.exit(
        store.persist(claimed.token, () => Effect.tap(write(claimed), () => rows.swallowError))
      )
      // in memory no statement can fail halfway
      if (Exit.isSuccess(exit)) return expect(yield* rows.list).toEqual(["a"])
      expect(String(exit.cause)).toContain("TransactionSpoiled")
      expect(yield* rows.list).toEqual([])
      expect(yield* statesOf("a")).toEqual(["in-flight"])
    }))

  test("each settlement gives the chunk its state and failure", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      for (const id of ["retry", "park", "bury", "already", "release"]) yield* record(call(id))
      const { chunks, token } = yield* claim
      const [retry, park, bury, already, release] = chunks
      if (!retry || !park || !bury || !already || !release) throw new Error("not claimed")
      const settlements: ReadonlyArray<Settlement> = [
        { _tag: "Retry", chunk: retry, delay: Duration.minutes(1), failure },
        { _tag: "Park", chunk: park, reason: "no-handler" },
        {
          _tag: "Bury",
          chunk: bury,
          reason: "undecodable",
          charge: false,
          failure: { ...failure, message: "a \u0000 b" }
        },
        { _tag: "Already", chunk: already },
        { _tag: "Release", chunk: release }
      ]
      const settled = yield* store.settle(token, settlements)
      expect(settled.map(({ settlement }) => settlement)).toEqual(settlements)
      expect(settled.filter(({ freesKey }) => freesKey).map(({ settlement }) => settlement._tag)).toEqual(["Already"])
      const view = (id: string) => Effect.map(inspect.call(id), (found) => Option.getOrThrow(found).chunks[0])
      expect(yield* view("retry")).toMatchObject({
        state: "scheduled",
        attempts: 1,
        failures: [{ attempt: 1, kind: "failed", message: "no" }]
      })
      expect(yield* view("park")).toMatchObject({ state: "parked", attempts: 0, failures: [] })
      expect(yield* view("bury")).toMatchObject({ state: "dead", attempts: 0, death: { reason: "undecodable" } })
      expect(yield* view("already")).toBeUndefined()
      expect(yield* view("release")).toMatchObject({ state: "ready", attempts: 0, crashes: 0, failures: [] })
      expect(yield* settle("released")).toEqual(["release"])
    }))

  test("of two concurrent once of a chunk one creates the objects; the other waits and receives the same", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      const entry = { key: keyOf("a"), namespace: "chatlab", handler: "once" }
      const inside = yield* Deferred.make<void>()
      const go = yield* Deferred.make<void>()
      const first = yield* Effect.forkChild(store.once(
        entry,
        Effect.gen(function*() {
          yield* rows.add("a")
          yield* Deferred.succeed(inside, undefined)
          yield* Deferred.await(go)
          return [DomainObject.make("chatlab.Message", "1")]
        })
      ))
      // one connection cannot hold two transactions: PGlite's second caller waits even to begin
      yield* Deferred.await(inside)
      const second = yield* Effect.forkChild(store.once(entry, Effect.as(rows.add("twice"), [])))
      yield* Effect.yieldNow
      yield* Deferred.succeed(go, undefined)
      expect(yield* Fiber.join(first)).toMatchObject({ created: true, entry: { objects: [{ id: "1" }] } })
      expect(yield* Fiber.join(second)).toMatchObject({ created: false, entry: { objects: [{ id: "1" }] } })
      expect(yield* rows.list).toEqual(["a"])
    }))

  test("once writes nothing when it fails, and can be repeated; at its end the chunk is removed from the queue", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      const entry = { key: keyOf("a"), namespace: "chatlab", handler: "once" }
      yield* record(call("a"))
      const failing = Effect.andThen(rows.add("a"), Effect.fail("no" as const))
      expect(yield* Effect.flip(store.once(entry, failing))).toBe("no")
      expect(yield* rows.list).toEqual([])
      expect(yield* store.once(entry, Effect.as(rows.add("a"), []))).toMatchObject({ created: true })
      expect(yield* statesOf("a")).toEqual(["nothing-to-create"])
      expect(idsOf((yield* claim).chunks)).toEqual([])
    }))
})
