/**
 * What other sessions do to rows that a claim would take: recordings that become visible late, and locks that are held for
 * long. Nothing is missed, nobody waits, and a worker that was frozen changes nothing.
 */
import { layer } from "@effect/vitest"
import {
  CallRecorder,
  ChunkStore,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Inspector,
  Settings
} from "effect-sluice"
import type { Claim } from "effect-sluice/ChunkStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import { Note, note, record } from "../support/clinic.ts"
import { chunkOf, cycle, untilEmpty } from "../support/drain.ts"
import { heldOpen } from "../support/heldOpen.ts"
import * as Postgres from "../support/Postgres.ts"

const write = (callId: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`insert into note (call_id) values (${callId})`
  )

const handler = HandlerPlugin.layer(
  "clinic",
  Note,
  Effect.map(SqlClient.SqlClient, (sql) => ({
    persist: ({ call }) =>
      Effect.as(sql`insert into note (call_id) values (${call.callId})`, DomainObject.make("clinic.Note", call.callId))
  }))
)

const application = (batchSize: number) =>
  Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
    Layer.provideMerge(HandlerRegistry.layer().pipe(Layer.provide(handler))),
    Layer.provideMerge(DomainEvents.layer),
    Layer.provideMerge(PgStore.layer),
    Layer.provideMerge(Settings.layer({ batchSize }))
  )

/**
 * Each test on a database of its own: the store remembers where its claims came to. What a test that fails has left open
 * ends before the connections do, which would wait for it.
 */
const onItsOwn = <A, E>(
  test: Effect.Effect<
    A,
    E,
    SqlClient.SqlClient | ChunkStore.ChunkStore | Inspector.Inspector | CallRecorder.CallRecorder | Drain.Drain | Scope
  >,
  batchSize = 10
) =>
  Effect.andThen(
    Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create table note (id serial primary key, call_id text not null)`),
    test
  ).pipe(
    Effect.scoped,
    Effect.provide(Layer.fresh(application(batchSize)).pipe(Layer.provideMerge(Layer.fresh(Postgres.layer()))))
  )

/** The notes' calls, in the order of writing. */
const notes = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    Effect.map(sql<{ call_id: string }>`select call_id from note order by id`, (rows) => rows.map((row) => row.call_id))
)

const claimOf = (limit: number) =>
  ChunkStore.ChunkStore.use((store) => store.claim({ worker: "w", limit, maxBytes: 1e9, lease: Duration.minutes(1) }))

const several = (count: number, name: string) => Array.from({ length: count }, (_, n) => note(`${name}-${n}`))

layer(Layer.empty, { excludeTestServices: true, timeout: 60_000 })("what becomes visible late", (it) => {
  it.effect("is found, though claims have gone on behind it, and the drain is not at its end before", () =>
    onItsOwn(Effect.gen(function*() {
      const recording = yield* heldOpen(record(note("late")))
      yield* record(...several(10, "other"))
      expect(yield* cycle).toMatchObject({ claimed: 10 })
      yield* recording.end
      expect(yield* untilEmpty).toMatchObject({ claimed: 1, persisted: 1 })
    })))

  it.effect("as is an urgent one, and one that another worker has given back", () =>
    onItsOwn(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* record(...several(11, "other"))
      yield* sql`update sluice.chunk_queue set lease_token = gen_random_uuid(), lease_until = now() + interval '1 minute'
        where call_id = 'other-0'`
      expect(yield* cycle).toMatchObject({ claimed: 10 })
      yield* record(note("urgent", {}, { priority: 5 }))
      yield* sql`update sluice.chunk_queue set lease_token = null, lease_until = null where call_id = 'other-0'`
      expect(yield* untilEmpty).toMatchObject({ claimed: 2, persisted: 2 })
    })))

  it.effect("of recordings that overlap, within a key the first to become visible may go first", () =>
    onItsOwn(
      Effect.gen(function*() {
        const knee = { orderingKey: "knee" }
        const recording = yield* heldOpen(record(note("begun first", {}, knee)))
        yield* record(note("seen first", {}, knee))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
        // one that was seen first and waits is passed by the older one all the same
        yield* record(note("seen first as well", {}, knee))
        yield* recording.end
        expect(yield* untilEmpty).toMatchObject({ persisted: 2 })
        expect(yield* notes).toEqual(["seen first", "begun first", "seen first as well"])
        // one a claim, so that it is the claims that keep the order
      }),
      1
    ))
})

layer(Layer.empty, { excludeTestServices: true, timeout: 60_000 })("a worker that is frozen", (it) => {
  const locked = Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`select from sluice.chunk_queue where call_id = 'frozen' for update`
  )
  /** As after a freeze beyond the lease. */
  const outlived = Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`update sluice.chunk_queue set lease_until = now() - interval '1 second' where call_id = 'frozen'`
  )
  const persist = (claim: Claim, work: Effect.Effect<unknown, unknown, SqlClient.SqlClient>) =>
    ChunkStore.ChunkStore.use((store) =>
      store.persist(claim.token, () =>
        Effect.as(
          Effect.andThen(write("frozen"), work),
          claim.chunks.map((chunk) => ({ chunk, handler: "h", handlerVersion: 1, objects: [] }))
        ))
    )

  it.effect("with a row locked keeps nobody from the others", () =>
    onItsOwn(Effect.gen(function*() {
      yield* record(note("frozen"), ...several(3, "other"))
      const claiming = yield* heldOpen(locked)
      expect(yield* untilEmpty).toMatchObject({ claimed: 3, persisted: 3 })
      yield* claiming.end
      expect(yield* untilEmpty).toMatchObject({ claimed: 1, persisted: 1 })
    })))

  it.effect("in the middle of its handlers changes nothing when it comes back", () =>
    onItsOwn(Effect.gen(function*() {
      yield* record(note("frozen"))
      const claim = yield* claimOf(10)
      const inside = yield* Latch.make(false)
      const thaw = yield* Latch.make(false)
      const first = yield* Effect.forkScoped(
        Effect.flip(persist(claim, Effect.andThen(inside.open, thaw.await)))
      )
      yield* inside.await
      yield* outlived
      expect(yield* untilEmpty).toMatchObject({ claimed: 1, persisted: 1 })
      yield* thaw.open
      expect(yield* Fiber.join(first)).toMatchObject({ _tag: "LeaseLost" })
      expect(yield* notes).toEqual(["frozen"])
      expect(yield* chunkOf("frozen")).toMatchObject({ state: "persisted", ledger: { handler: "clinic/note" } })
    })))

  it.effect("just before its commit holds up nobody, and has done it once when it comes back", () =>
    onItsOwn(Effect.gen(function*() {
      yield* record(note("frozen"), ...several(3, "other"))
      const claim = yield* claimOf(1)
      yield* outlived
      const committing = yield* heldOpen(persist(claim, Effect.void))
      expect(yield* untilEmpty).toMatchObject({ claimed: 3, persisted: 3 })
      yield* committing.end
      expect(yield* untilEmpty).toMatchObject({ claimed: 0 })
      expect((yield* notes).filter((id) => id === "frozen")).toHaveLength(1)
      expect(yield* chunkOf("frozen")).toMatchObject({ state: "nothing-to-create", ledger: { handler: "h" } })
    })))

  it.effect("with the oldest of a key in its hands keeps nobody from what stands behind the line", () =>
    onItsOwn(Effect.gen(function*() {
      const knee = { orderingKey: "knee" }
      yield* record(note("frozen", {}, knee))
      yield* claimOf(10)
      // more than a claim takes
      yield* record(...Array.from({ length: 25 }, (_, n) => note(`line-${n}`, {}, knee)), ...several(5, "free"))
      const settling = yield* heldOpen(locked)
      expect(yield* untilEmpty).toMatchObject({ claimed: 5, persisted: 5 })
      yield* settling.end
      expect(yield* untilEmpty).toMatchObject({ claimed: 0 })
      yield* outlived
      expect(yield* untilEmpty).toMatchObject({ claimed: 26, persisted: 26 })
      expect((yield* notes).slice(5)).toEqual(["frozen", ...Array.from({ length: 25 }, (_, n) => `line-${n}`)])
    })))
})
