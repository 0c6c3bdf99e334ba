/**
 * Rows that others have locked, for as long as they like: a caller's transaction, an operator's `select … for update`, a
 * prepared transaction. A claim takes what is due behind them, looks at nothing twice, and comes to an end; and nobody is
 * put aside behind what does not hold it up, or what cannot be locked.
 */
import { it } from "@effect/vitest"
import { ChunkStore, DeadLetters, Inspector, Settings } from "effect-sluice"
import type { Claim, ClaimRequest } from "effect-sluice/ChunkStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Statement from "effect/sql/Statement"
import { describe, expect } from "vitest"
import {
  call,
  claimWith,
  giveBack,
  idsOf,
  keyOf,
  persist,
  record,
  settle,
  statesOf
} from "../contract/operators/dialogues.ts"
import { heldOpen, waitsOrEnds } from "../support/heldOpen.ts"
import * as inspect from "../support/inspect.ts"
import * as Postgres from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

const knee = (id: string, fields = {}) => call(id, { orderingKey: "knee", ...fields })

/** What a claim takes, and how many statements it took. One that waits for a lock, or goes on for ever, fails. */
const claimed = Effect.fnUntraced(function*(request: Partial<ClaimRequest>) {
  let statements = 0
  const claim: Claim = yield* claimWith(request).pipe(
    Effect.provideService(Statement.CurrentTransformer, (statement) => {
      statements++
      return Effect.succeed(statement)
    }),
    Effect.timeout("10 seconds")
  )
  return { ids: idsOf(claim.chunks), statements, claim }
})
const idsWith = (request: Partial<ClaimRequest>) => Effect.map(claimed(request), ({ ids }) => ids)

/** Persists claim after claim until nothing is due, in the order in which they were persisted. */
const all = Effect.gen(function*() {
  const ids: Array<string> = []
  while (true) {
    const persisted = yield* settle("persisted")
    if (persisted.length === 0) return ids
    ids.push(...persisted)
  }
})

const locked = (...ids: ReadonlyArray<string>) =>
  heldOpen(
    Effect.flatMap(SqlClient.SqlClient, (sql) =>
      sql`select from sluice.chunk_queue where ${sql.in("call_id", ids)} for update`)
  )

/** All of these are due for another attempt, one after another. */
const scheduled = (ids: ReadonlyArray<string>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      Effect.forEach(ids, (id, index) =>
        sql`update sluice.chunk_queue set state = 'scheduled', attempts = 1,
        due_at = now() - interval '1 minute' + ${index} * interval '1 second' where call_id = ${id}`)
  )

const several = (count: number, name: string) => Array.from({ length: count }, (_, n) => `${name}-${n}`)

describe.each([15, 18] as const)("rows that are locked, on Postgres %i", (version) => {
  const on = <E>(
    test: Effect.Effect<
      unknown,
      E,
      SqlClient.SqlClient | ChunkStore.ChunkStore | Inspector.Inspector | DeadLetters.DeadLetters | Scope
    >,
    settings: Partial<Settings.Values> = {}
  ) =>
    Effect.scoped(test).pipe(Effect.provide(
      Layer.fresh(PgStore.layer).pipe(
        Layer.provide(Settings.layer({ notify: false, ...settings })),
        Layer.provideMerge(Layer.fresh(Postgres.layer(version)))
      )
    ))

  const requests: Readonly<Record<string, Partial<ClaimRequest>>> = {
    "one at a time": { limit: 1 },
    "a few bytes at a time": { maxBytes: 10 },
    "one namespace's": { namespace: "chatlab", limit: 1 },
    "without a kind": { except: [{ namespace: "core", schemaIdentity: "schemas.chatlab.other.other" }], limit: 1 }
  }
  for (const [name, request] of Object.entries(requests)) {
    it.live(`a locked head of a key keeps nobody from what is behind the line: ${name}`, () =>
      on(Effect.gen(function*() {
        yield* record(...several(5, "knee").map((id) => knee(id)), call("plain"), call("keyed", { orderingKey: "hip" }))
        const lock = yield* locked("knee-0")
        expect(yield* idsWith(request)).toEqual(["plain"])
        expect(yield* idsWith(request)).toEqual(["keyed"])
        // and when it has seen all it ends: a look at each, and none twice
        const last = yield* claimed(request)
        expect(last.ids).toEqual([])
        expect(last.statements).toBeLessThanOrEqual(10)
        yield* lock.end
        expect(yield* all).toEqual(several(5, "knee"))
      })))
  }

  it.live("a locked head keeps no retry from its time, however many stand behind it", () =>
    on(Effect.gen(function*() {
      const line = several(12, "knee")
      yield* record(...line.map((id) => knee(id)), call("stranger"), call("fresh"))
      yield* scheduled([...line.slice(1), "stranger"])
      const lock = yield* locked("knee-0")
      expect(yield* idsWith({ limit: 5 })).toEqual(["fresh"])
      expect(yield* idsWith({ limit: 5 })).toEqual(["stranger"])
      expect(yield* idsWith({ limit: 5 })).toEqual([])
      yield* lock.end
      expect(yield* all).toEqual(line)
    })))

  it.live("a locked retry keeps nobody from what is due", () =>
    on(Effect.gen(function*() {
      yield* record(...["a", "b", "c", "d"].map((id) => call(id)))
      yield* scheduled(["a", "b", "c"])
      const lock = yield* locked("a", "b")
      expect(yield* idsWith({ limit: 1 })).toEqual(["c"])
      expect(yield* idsWith({ limit: 1 })).toEqual(["d"])
      expect(yield* idsWith({ limit: 1 })).toEqual([])
      yield* lock.end
      expect(yield* idsWith({})).toEqual(["a", "b"])
    })))

  it.live(
    "the heads of a thousand keys are locked: what is behind them is found, in a few looks",
    () =>
      on(Effect.gen(function*() {
        const keys = several(1000, "bed")
        const of = (name: string) => keys.map((key) => call(`${name} ${key}`, { orderingKey: key }))
        yield* record(...of("first"), ...of("second"), call("free"), ...of("third"), call("free too"))
        yield* scheduled(keys.slice(0, 500).map((key) => `second ${key}`))
        const lock = yield* locked(...keys.map((key) => `first ${key}`))
        for (const id of ["free", "free too"]) {
          const { ids, statements } = yield* claimed({ limit: 1 })
          expect(ids).toEqual([id])
          expect(statements).toBeLessThanOrEqual(16)
        }
        const { ids, statements } = yield* claimed({ limit: 1 })
        expect(ids).toEqual([])
        expect(statements).toBeLessThanOrEqual(20)
        yield* lock.end
      }))
  )

  it.live("a claim for one call behind a locked one finds nothing, and says so at once", () =>
    on(Effect.gen(function*() {
      const outputs = several(5, "part").map((part) => ({
        schema: keyOf("").schemaIdentity,
        version: 1,
        part,
        data: 1
      }))
      yield* record(knee("head"), knee("call", { outputs }))
      const lock = yield* locked("head")
      const { ids, statements } = yield* claimed({ callId: "call", limit: 1 })
      expect(ids).toEqual([])
      expect(statements).toBeLessThanOrEqual(5)
      yield* lock.end
      // behind one that is held it is put aside, and looked at all the same
      expect(yield* idsWith({ callId: "head" })).toEqual(["head"])
      expect(yield* idsWith({ callId: "call", limit: 1 })).toEqual([])
      expect(yield* idsWith({ callId: "call", limit: 1 })).toEqual([])
    })))

  it.live("whoever settles what holds up others waits for a claim that puts them aside, and then wakes them", () =>
    on(Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      // behind a chunk
      yield* record(knee("a"), knee("b"))
      const { claim } = yield* claimed({ limit: 1 })
      const claiming = yield* heldOpen(claimWith({}))
      expect(yield* statesOf("b")).toEqual(["ready"])
      const settling = yield* Effect.forkChild(persist(claim))
      yield* waitsOrEnds(settling)
      yield* claiming.end
      yield* Fiber.join(settling)
      expect(yield* settle({ dead: "exhausted" })).toEqual(["b"])
      // behind a dead letter
      yield* record(knee("c"))
      const looking = yield* heldOpen(claimWith({}))
      const discarding = yield* Effect.forkChild(letters.discard({ callId: "b" }, "said twice"))
      yield* waitsOrEnds(discarding)
      yield* looking.end
      yield* Fiber.join(discarding)
      expect(yield* idsWith({})).toEqual(["c"])
      expect((yield* inspect.status)[0]).toMatchObject({ waiting: 0 })
    })))

  it.live("while a claim puts aside who is held up, whoever settles or discards what holds them up waits for it", () =>
    on(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const letters = yield* DeadLetters.DeadLetters
      // holds a claim between its look and its commit
      yield* sql`create function public.linger() returns trigger language plpgsql as
        $$ begin perform pg_advisory_xact_lock(7); return new; end $$`
      yield* sql`create trigger linger before update on sluice.chunk_queue for each row
        when (new.state = 'waiting') execute function public.linger()`
      const lingering = Effect.gen(function*() {
        const lock = yield* heldOpen(sql`select pg_advisory_xact_lock(7)`)
        const claiming = yield* Effect.forkChild(claimWith({}))
        yield* waitsOrEnds(claiming)
        return { end: Effect.andThen(lock.end, Fiber.join(claiming)) }
      })
      // behind a chunk
      yield* record(knee("a"), knee("b"))
      const { claim } = yield* claimed({ limit: 1 })
      const aside = yield* lingering
      const settling = yield* Effect.forkChild(persist(claim))
      yield* waitsOrEnds(settling, 1)
      yield* aside.end
      yield* Fiber.join(settling)
      expect(yield* settle({ dead: "exhausted" })).toEqual(["b"])
      // behind a dead letter
      yield* record(knee("c"))
      const behindLetter = yield* lingering
      const discarding = yield* Effect.forkChild(letters.discard({ callId: "b" }, "said twice"))
      yield* waitsOrEnds(discarding, 1)
      yield* behindLetter.end
      yield* Fiber.join(discarding)
      expect(yield* idsWith({})).toEqual(["c"])
    })))

  it.live("a worker that is frozen among its handlers lets go of what it has locked, by the server's own limit", () =>
    on(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const store = yield* ChunkStore.ChunkStore
      yield* record(call("a"))
      const { token } = yield* claimWith({})
      const locked = yield* Latch.make(false)
      const frozen = yield* Effect.forkChild(
        store.persist(
          token,
          () =>
            sql`select from sluice.chunk_queue where call_id = 'a' for update`.pipe(
              Effect.andThen(locked.open),
              Effect.andThen(Effect.never)
            ),
          Duration.millis(100)
        )
      )
      const unlocked = sql`select from sluice.chunk_queue where call_id = 'a' for update skip locked`
      // for a tenth of a second: who looks for the lock may come too late to see it
      yield* locked.await
      yield* untilIt(unlocked, (rows) => rows.length === 1)
      yield* Fiber.interrupt(frozen)
    })))

  it.live("nobody is put aside behind a younger letter while the one that holds it up is being discarded", () =>
    on(Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* record(knee("a"), knee("b"), knee("c"), knee("d"))
      yield* settle((chunk) => chunk.key.callId === "d" ? "released" : { dead: "undecodable" })
      yield* letters.redrive({ callId: "b" })
      const discarding = yield* heldOpen(letters.discard({ callId: "a" }, "said twice"))
      // to this claim the letter still stands; what it put aside now, the discarding would not wake
      expect(yield* idsWith({})).toEqual([])
      expect(yield* statesOf("b")).toEqual(["ready"])
      yield* discarding.end
      expect(yield* settle("persisted")).toEqual(["b"])
      expect(yield* letters.redrive({ callId: "c" })).toBe(1)
      expect(yield* all).toEqual(["c", "d"])
    })))

  it.live("a claim in a caller's transaction that takes nothing holds up nobody: not who settles, not who discards", () =>
    on(Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* record(knee("a"), knee("b"), call("c", { orderingKey: "hip" }), call("d", { orderingKey: "hip" }))
      const first = yield* claimWith({ callId: "a" })
      yield* settle(({ key }) => key.callId === "c" ? { dead: "exhausted" } : "released")
      expect(yield* statesOf("b")).toEqual(["waiting"])
      const looking = yield* heldOpen(Effect.all([claimWith({ callId: "b" }), claimWith({ callId: "d" })]))
      yield* Effect.timeout(persist(first), "10 seconds")
      yield* Effect.timeout(letters.discard({}, "said twice"), "10 seconds")
      const [behindA, behindC] = yield* looking.end
      expect([behindA.chunks, behindC.chunks]).toEqual([[], []])
      expect(yield* idsWith({})).toEqual(["b", "d"])
    })))

  it.live("a claim in a caller's transaction puts nobody aside: whoever settles what holds that up would wait for the caller", () =>
    on(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const store = yield* ChunkStore.ChunkStore
      const outputs = ["p", "q"].map((part) => ({ schema: keyOf("").schemaIdentity, version: 1, part, data: 1 }))
      yield* record(knee("call", { outputs }), knee("between"))
      // recorded at the same time, with their numbers mixed
      yield* sql`update sluice.chunk_queue set seq = 1000 where part = 'q'`
      const claiming = yield* heldOpen(claimWith({ callId: "call" }))
      const once = store.once({ key: keyOf("between"), namespace: "chatlab", handler: "by hand" }, Effect.succeed([]))
      expect(yield* Effect.timeout(once, "10 seconds")).toMatchObject({ created: true })
      expect((yield* claiming.end).chunks).toMatchObject([{ key: { part: "p" } }])
    })))

  it.live("a claim in a caller's transaction leaves it as durable as it was", () =>
    on(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* record(call("a"), knee("b"))
      const kept = sql.withTransaction(Effect.gen(function*() {
        yield* claimWith({ limit: 1 })
        yield* claimWith({ callId: "b" })
        return yield* sql<{ synchronous_commit: string }>`show synchronous_commit`
      }))
      expect(yield* kept).toEqual([{ synchronous_commit: "on" }])
    })))

  // --- where the next claim begins

  it.live("what is given back is claimed before what comes after it", () =>
    on(Effect.gen(function*() {
      const ids = several(20, "call")
      yield* record(...ids.map((id) => call(id)))
      const first = yield* claimWith({ limit: 10 })
      yield* giveBack({ ...first, chunks: first.chunks.slice(0, 2) })
      expect(yield* idsWith({ limit: 5 })).toEqual(["call-0", "call-1", "call-10", "call-11", "call-12"])
      yield* ChunkStore.ChunkStore.use((store) => store.giveUp(first.token))
      expect(yield* idsWith({ limit: 2 })).toEqual(["call-2", "call-3"])
    })))

  it.live("what comes free behind the mark is found at once, also by who is hasty", () =>
    on(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* record(knee("a"), knee("b"))
      yield* sql`update sluice.chunk_queue set rank = rank - interval '1 hour'`
      const { claim } = yield* claimed({ limit: 1 })
      yield* record(call("late"))
      // the next claim looks from the beginning
      yield* ChunkStore.ChunkStore.use((store) => store.giveUp(crypto.randomUUID()))
      // looking takes long here, as over many dead entries: so the mark is kept at the end
      const slowly = Effect.provideService(Statement.CurrentTransformer, (statement) =>
        Effect.delay(Effect.succeed(statement), Duration.millis(500)))
      expect(idsOf((yield* slowly(claimWith({}))).chunks)).toEqual(["late"])
      expect(idsOf((yield* slowly(claimWith({ hasty: true }))).chunks)).toEqual([])
      yield* persist(claim)
      expect(yield* idsWith({ hasty: true })).toEqual(["b"])
    })))
})
