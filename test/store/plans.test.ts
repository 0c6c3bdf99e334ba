/**
 * How Postgres goes about the claim's statements beside a backlog of tens of thousands: by indexes, over as many rows as
 * are claimed, not over those that wait. The statements are the store's own, seen on their way to the server.
 */
import { it } from "@effect/vitest"
import { ChunkStore } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import type { ClaimRequest } from "../../src/ChunkStore.ts"
import { plansOf, readBy, type Sent, type Step, watched } from "../support/plans.ts"
import * as Postgres from "../support/Postgres.ts"

/** So many of each state. */
const many = 10_000
const limit = 100

/** What a queue can hold: of a key the first may be claimed, the others wait, until a claim looks at them. */
const backlog = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const kind = "schemas.clinic.ward.note"
  yield* sql`
    insert into sluice.service_call (call_id, namespace, service, correlation_id, status, outputs)
    select state || '-' || n, 'clinic', 'services.clinic.ward.take-notes', state || '-' || n, 'succeeded', array['{}'::json]
    from generate_series(1, ${many}::int) n, unnest(array['ready', 'parked', 'scheduled', 'waiting', 'keyed']) state`
  yield* sql`
    insert into sluice.chunk_queue (call_id, namespace, schema_identity, schema_version, state, parked_for, due_at, rank)
    select state || '-' || n, 'clinic', ${kind}, 1, state, case state when 'parked' then 'no-handler' end, at, at
    from generate_series(1, ${many}::int) n, unnest(array['ready', 'parked', 'scheduled']) state,
      lateral (select now() + case state when 'scheduled' then 100000 + n else n - 20000 end * interval '1 second' as at) due`
  yield* sql`
    insert into sluice.chunk_queue (call_id, namespace, schema_identity, schema_version, ordering_key, state, due_at, rank)
    select state || '-' || n, 'clinic', ${kind}, 1, 'bed-' || n % 1000, case state when 'keyed' then 'ready' else state end, at, at
    from unnest(array['keyed', 'waiting']) with ordinality s(state, place), generate_series(1, ${many}::int) n,
      lateral (select now() - interval '1 second' as at) due
    order by place, n`
  yield* sql`
    insert into sluice.dead_letter (call_id, schema_identity, seq, namespace, schema_version, position, bytes, priority,
      ordering_key, reason, handler, message, attempts, crashes, recorded_at)
    select 'dead-' || n, ${kind}, -n, 'clinic', 1, 0, 1, 0, case when n % 2 = 0 then 'dead-bed-' || n end, 'rejected', '',
      'no bed', 0, 0, now()
    from generate_series(1, ${many}::int) n`
  yield* sql.unsafe("vacuum analyze sluice.service_call, sluice.chunk_queue, sluice.dead_letter")
})

/** What a claim takes, and the statements it sent. */
const claimed = Effect.fnUntraced(function*(request: Partial<ClaimRequest>) {
  const store = yield* ChunkStore.ChunkStore
  const { sent, value: { chunks } } = yield* watched(
    store.claim({ worker: "w", limit, maxBytes: 1e6, lease: Duration.minutes(1), ...request })
  )
  return { chunks, sent }
})

// a claim for a call reads the few pauses there are
const isOfTable = (step: Step) => step["Relation Name"] !== undefined && step["Relation Name"] !== "pause"
const looksOrSorts = /Scan|Sort|WindowAgg|ModifyTable|LockRows/

/** A statement that takes chunks, or none, reads by indexes, and not many times what it may take at most. */
const expectSparing = Effect.fnUntraced(
  function*(name: string, statement: Sent | undefined, { most = limit, takes = true } = {}) {
    for (const [time, steps] of yield* plansOf(statement!)) {
      const where = `a claim ${name}, ${time}`
      const writes = steps.filter((step) => step["Node Type"] === "ModifyTable")
      expect.soft(writes.some((step) => step["Actual Rows"] > 0), where).toBe(takes)
      expect.soft(steps.filter(isOfTable).map((step) => step["Node Type"]), where).not.toContain("Seq Scan")
      for (const step of steps.filter((one) => looksOrSorts.test(one["Node Type"]))) {
        expect.soft(readBy(step), `${where}: ${JSON.stringify(step)}`).toBeLessThanOrEqual(10 * most)
      }
    }
  }
)

describe.each([15, 18] as const)("a claim beside a backlog, on Postgres %i", (version) => {
  // what is prepared is prepared in one session
  const onPostgres = PgStore.layer.pipe(Layer.provideMerge(Postgres.layer(version, { maxConnections: 1 })))

  it.live("reads by indexes, and no more than it takes", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* backlog
      const plain = yield* claimed({})
      expect(plain.sent.length).toBe(1)
      yield* expectSparing("of plain chunks", plain.sent[0])

      // now some that failed have their time, and some of keys come next; behind what was claimed, where the store goes on
      yield* sql`update sluice.chunk_queue set attempts = 1, due_at = now() - interval '1 day', rank = now() - interval '1 day'
        where call_id like 'scheduled-1_'`
      yield* sql`update sluice.chunk_queue set rank = (select max(rank) from sluice.chunk_queue where lease_token is not null)
        where ordering_key is not null and state = 'ready' and seq % 100 = 0`
      yield* sql.unsafe("vacuum analyze sluice.chunk_queue")
      yield* expectSparing("that finds special ones", plain.sent[0], { takes: false })
      const mixed = yield* claimed({})
      expect(new Set(mixed.chunks.map(({ attempts, orderingKey }) => `${attempts} ${orderingKey !== undefined}`)))
        .toEqual(new Set(["1 false", "0 true"]))
      yield* expectSparing("of special ones", mixed.sent.at(-1))

      const one = yield* claimed({ callId: "ready-7000" })
      yield* sql`update sluice.chunk_queue set lease_token = null, lease_until = null where call_id = 'ready-7000'`
      yield* expectSparing("for a call", one.sent[0], { most: 1 })
    }).pipe(Effect.provide(onPostgres)), 120_000)

  /** None of a statement's steps reads more of the queue than that. */
  const expectReads = Effect.fnUntraced(function*(statement: Sent | undefined, most: number) {
    for (const [time, steps] of yield* plansOf(statement!)) {
      const ofQueue = steps.filter((step) => step["Relation Name"] === "chunk_queue")
      expect.soft(ofQueue.length, time).toBeGreaterThan(0)
      for (const step of ofQueue) {
        expect.soft(readBy(step), `${time}: ${JSON.stringify(step)}`).toBeLessThanOrEqual(most)
      }
    }
  })

  it.live(
    "is not slowed by beats: they read none of the parked but those they take up, and some of what waits",
    () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        yield* backlog
        const other = [{ namespace: "clinic", schemaIdentity: "schemas.clinic.ward.letter" }]
        const { sent, value } = yield* watched(store.beat("w", other))
        expect(value.unparked).toBe(0)
        // the others roll up usage and count the ledger, of which there is none: they read no chunk
        const looks = sent.filter(([text]) => text.includes("chunk_queue"))
        expect(looks.length).toBe(3)
        // whether a call whose end is to be told has chunks: there is no such call
        yield* expectReads(looks[2], 10)
        yield* expectReads(sent[0], 10)
        // of so many keys the first that waits, and whether anything is before it
        yield* expectReads(sent[1], 250)
      }).pipe(Effect.provide(onPostgres)),
    120_000
  )

  it.live("nor by what leaves its ordering key: that finds its followers by their index", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const store = yield* ChunkStore.ChunkStore
      yield* backlog
      yield* sql`update sluice.chunk_queue set rank = now() - interval '1 year' where call_id = 'keyed-7'`
      const { chunks, token } = yield* store.claim({ worker: "w", limit: 1, maxBytes: 1e6, lease: Duration.minutes(1) })
      expect(chunks.map(({ key }) => key.callId)).toEqual(["keyed-7"])
      const { sent } = yield* watched(store.settle(token, chunks.map((chunk) => ({ _tag: "Already", chunk }))))
      const wakes = sent.filter(([text]) => text.includes("state = 'waiting'"))
      expect(wakes.length).toBe(1)
      yield* expectReads(wakes[0], 10)
    }).pipe(Effect.provide(onPostgres)), 120_000)
})
