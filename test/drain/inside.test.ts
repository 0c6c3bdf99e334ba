/**
 * Declared handlers inside the server: what is persisted there, what is handed out, and what failures cost.
 */
import { describe, expect, it } from "@effect/vitest"
import { CallRecorder, ChunkStore, DomainEvents, Drain, Erasure } from "effect-sluice"
import type { PersistedInside } from "effect-sluice/ChunkStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as declared from "../support/declared.ts"
import { Card, Finding, finding, Order, record } from "../support/declared.ts"
import { chunkOf, storeWith, untilEmpty } from "../support/drain.ts"

/** What the store was asked to do inside, and did. */
interface Seen {
  readonly inside: Array<string>
  /** Of these, the ones that it was asked for alone. */
  readonly alone: Array<string>
  failures: number
  /** What the last failure said. */
  message: string
}

/** The laboratory on a server, with a store that tells what it did. */
const laboratory = (
  name: keyof typeof declared.servers,
  seen: Seen,
  more: ReadonlyArray<string> = [],
  settings: Parameters<typeof declared.application>[1] = {}
) => {
  const server = declared.servers[name](more)
  const watched = Layer.effect(
    ChunkStore.ChunkStore,
    Effect.map(ChunkStore.ChunkStore, (store) =>
      ChunkStore.ChunkStore.of({
        ...store,
        persistInside: (request) =>
          store.persistInside(request).pipe(
            Effect.tap((inside) =>
              Effect.sync(() => {
                const callIds = (inside?.chunks ?? []).map(({ key }) => key.callId)
                seen.inside.push(...callIds)
                if (request.limit === 1) seen.alone.push(...callIds)
              })
            ),
            Effect.tapError((error) =>
              Effect.sync(() => {
                seen.failures++
                seen.message = error.message
              })
            )
          )
      }))
  )
  return declared.application(Layer.merge(server, Layer.provide(watched, server)), settings)
}

const see = (): Seen => ({ inside: [], alone: [], failures: 0, message: "" })

/** Everything that both ways must leave alike. */
const picture = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return {
    findings: yield* sql`select to_jsonb(f) - 'id' as row from finding f order by call_id`,
    orders: yield* sql`select call_id, place, name, dose from lab_order order by call_id, place`,
    cards: yield* sql`select patient, ward, note from card order by patient`,
    ledger: yield* sql`
      select call_id, schema_identity, part, namespace, schema_version, handler, handler_version,
        jsonb_array_length(objects) as objects
      from sluice.persisted_chunk order by call_id`,
    named: yield* sql`
      select l.call_id, o.value ->> 'type' as type, f.call_id as finding, i.call_id as item, i.place
      from sluice.persisted_chunk l cross join jsonb_array_elements(l.objects) with ordinality o(value, place)
      left join finding f on f.id::text = o.value ->> 'id' left join lab_order i on i.id::text = o.value ->> 'id'
      order by l.call_id, o.place`,
    queue: yield* sql`select call_id, state, attempts from sluice.chunk_queue order by call_id`,
    dead: yield* sql`select call_id, reason, attempts, message from sluice.dead_letter order by call_id`
  }
})

/** A bit of everything. */
const story = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  for (let n = 0; n < 5; n++) yield* record(`plain-${n}`, yield* finding(`plain ${n}`))
  yield* record("part", { ...yield* finding("of a part", { maybe: null }), part: "left" })
  yield* record("items", yield* Order.encode({ items: [{ name: "iron", dose: 1.5 }, { name: "zinc", dose: null }] }))
  yield* record("no items", yield* Order.encode({ items: [] }))
  yield* record("card-1", yield* Card.encode({ patient: "p1", ward: "w1", note: "one" }))
  yield* record("card-2", yield* Card.encode({ patient: "p2", ward: "w1", note: "two" }))
  const first = yield* untilEmpty
  yield* record("card-3", yield* Card.encode({ patient: "p1", ward: "w2", note: "three" }))
  yield* record("card-4", yield* Card.encode({ patient: "p1", ward: "w2", note: "four" }))
  yield* record("old", { schema: Finding.identity, version: 1, data: { text: "of version 1" } })
  yield* record("by hand", {
    schema: Finding.identity,
    version: 2,
    data: structuredClone((yield* finding("by hand")).data)
  })
  yield* record("misfit", { schema: Finding.identity, version: 2, data: { text: 4 } })
  yield* record("homeless", yield* finding("no ward"), { context: {} })
  yield* record("bad", yield* finding("bad"))
  yield* record("key-1", yield* finding("first of its key"), { orderingKey: "k" })
  yield* record("key-2", yield* finding("second of its key"), { orderingKey: "k" })
  yield* record("pruned", yield* finding("pruned"))
  yield* sql`update sluice.service_call set outputs = null where call_id = 'pruned'`
  for (let n = 0; n < 5; n++) yield* record(`mate-${n}`, yield* finding(`mate ${n}`), { correlationId: "visit" })
  return { first, second: yield* untilEmpty, picture: yield* picture }
})

/** The same kinds of answers, each recorded when the one before is drained: what is announced, and what is there then. */
const oneByOne = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const heard = yield* DomainEvents.DomainEvents.use((events) => events.subscribe)
  const drained = (...given: Parameters<typeof record>) => Effect.andThen(record(...given), untilEmpty)
  yield* drained("plain-0", yield* finding("the first"))
  yield* drained("plain-1", yield* finding("plain"), { correlationId: "visit", context: { ward: "w1", hint: "of it" } })
  yield* drained("part", { ...yield* finding("of a part", { maybe: null }), part: "left" })
  for (const [callId, patient] of [["card-1", "p1"], ["card-2", "p2"], ["card-3", "p1"]] as const) {
    yield* drained(callId, yield* Card.encode({ patient, ward: "w1", note: callId }))
  }
  yield* drained("items-0", yield* Order.encode({ items: [{ name: "iron", dose: 1.5 }] }))
  yield* drained("items-1", yield* Order.encode({ items: [{ name: "zinc", dose: null }, { name: "iron", dose: 2 }] }))
  yield* drained("plain-2", yield* finding("plain"))
  yield* drained("old", { schema: Finding.identity, version: 1, data: { text: "of version 1" } })
  yield* drained("plain-3", yield* finding("plain"))
  yield* drained("homeless", yield* finding("no ward"), { context: {} })
  yield* drained("plain-4", yield* finding("plain"))
  yield* drained("bad", yield* finding("bad"))
  yield* drained("key", yield* finding("of a key"), { orderingKey: "k" })
  yield* record("pruned", yield* finding("pruned"))
  yield* sql`update sluice.service_call set outputs = null where call_id = 'pruned'`
  yield* untilEmpty
  yield* drained("plain-5", yield* finding("plain"))
  const { dead, ...left } = yield* picture
  // ids come from a sequence, which a row that is refused has moved
  const letters = dead.map((row) => ({ ...row, message: String(row.message).replace(/contains \(\d+/, "") }))
  const events = Array.from(yield* Stream.runCollect(Stream.take(heard, 14)), ({ object, ...event }) => ({
    ...event,
    type: object.type
  }))
  return { ...left, letters, events }
}).pipe(Effect.scoped)

describe.each(["Postgres 18", "Postgres 15", "PGlite"] as const)("on %s", (name) => {
  it.live("one at a time, rows, ledger, dead and events are the same inside and outside", () =>
    Effect.gen(function*() {
      const [on, off] = [see(), see()]
      const inside = yield* Effect.provide(oneByOne, laboratory(name, on))
      const outside = yield* Effect.provide(oneByOne, laboratory(name, off, [], { declaredInside: false }))
      expect(inside).toEqual(outside)
      expect(inside.findings).toHaveLength(9)
      // a kind's first chunk shows that the kind's chunks come one at a time; a row for each element takes the other statement
      expect(on.alone).toEqual([
        "plain-1",
        "part",
        "card-2",
        "card-3",
        "items-1",
        "plain-2",
        "plain-3",
        "plain-4",
        "plain-5"
      ])
    }))

  it.live("where one was due, two that come together are persisted in their order, and one that a trigger skips fails", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        yield* record("a", yield* finding("a"))
        yield* untilEmpty
        yield* record("b", yield* finding("b"))
        yield* record("c", yield* finding("c"))
        expect(yield* untilEmpty).toMatchObject({ claimed: 2, persisted: 2 })
        expect(seen).toMatchObject({ inside: ["a", "b", "c"], alone: ["b"], failures: 0 })
        for (const callId of ["d", "e"]) {
          yield* record(callId, yield* finding(callId))
          yield* untilEmpty
        }
        expect(seen.alone).toEqual(["b", "e"])
        yield* record("skipped", yield* finding("skipped"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 0, dead: 1 })
        expect(seen.failures).toBe(1)
        expect((yield* picture).findings).toHaveLength(5)
      }),
      laboratory(name, seen, [
        "create function leave_out() returns trigger language plpgsql as $$ begin return case when new.text <> 'skipped' then new end; end $$",
        "create trigger leave_out before insert on finding for each row execute function leave_out()"
      ])
    )
  })

  it.live("the rows, the ledger and the dead are the same inside and outside", () =>
    Effect.gen(function*() {
      const [on, off] = [see(), see()]
      const inside = yield* Effect.provide(story, laboratory(name, on))
      const outside = yield* Effect.provide(story, laboratory(name, off, [], { declaredInside: false }))
      expect(inside).toEqual(outside)
      expect(inside.first).toMatchObject({ claimed: 10, persisted: 9, nothingToCreate: 1 })
      expect(inside.second).toMatchObject({ claimed: 15, persisted: 11, dead: 4 })
      expect(off.inside).toEqual([])
      // all of the first part, and of the second some
      expect(on.inside.slice(0, 10).toSorted()).toEqual(
        ["card-1", "card-2", "items", "no items", "part", ...[0, 1, 2, 3, 4].map((n) => `plain-${n}`)]
      )
      for (const callId of ["old", "by hand", "misfit", "homeless", "bad", "key-1", "key-2", "pruned"]) {
        expect(on.inside).not.toContain(callId)
      }
    }))
})

describe("on Postgres 18", () => {
  it.live("refused rows are charged once each, and all their mates arrive", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        for (let n = 0; n < 300; n++) yield* record(`f-${n}`, yield* finding(n % 97 === 50 ? "bad" : `text ${n}`))
        expect(yield* untilEmpty).toMatchObject({ claimed: 300, persisted: 297, dead: 3 })
        expect(yield* chunkOf("f-147")).toMatchObject({ state: "dead", attempts: 1, death: { reason: "exhausted" } })
        expect(JSON.stringify(yield* chunkOf("f-244"))).toContain("finding_text_check")
        expect(seen.failures).toBeGreaterThan(0)
        expect(seen.inside.length).toBeGreaterThan(0)
      }),
      laboratory("Postgres 18", seen, [], { batchSize: 20 })
    )
  })

  it.live("where all are refused, the statement is tried less and less often", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        for (let n = 0; n < 100; n++) yield* record(`f-${n}`, yield* finding("bad"))
        expect(yield* untilEmpty).toMatchObject({ claimed: 100, dead: 100 })
        expect(seen.failures).toBeLessThanOrEqual(7)
      }),
      laboratory("Postgres 18", seen, [], { batchSize: 2 })
    )
  })

  it.live("a trigger that leaves a row out, or adds one, fails the statement: nothing is written", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        for (const id of ["a", "b", "c"]) yield* record(id, yield* finding(id))
        expect(yield* untilEmpty).toMatchObject({ persisted: 2, dead: 1 })
        expect(seen).toMatchObject({ inside: [], alone: [], failures: 1 })
        expect((yield* picture).findings).toHaveLength(2)
      }),
      laboratory("Postgres 18", seen, [
        "create function leave_out() returns trigger language plpgsql as $$ begin return case when new.text <> 'b' then new end; end $$",
        "create trigger leave_out before insert on finding for each row execute function leave_out()"
      ])
    )
  })

  it.live.each([100, 700])(
    "a batch that takes longer than its handler may, %i milliseconds, is claimed and charged",
    (limit) => {
      const seen = see()
      return Effect.provide(
        Effect.gen(function*() {
          yield* record("a", yield* finding("slow"))
          expect(yield* untilEmpty).toMatchObject({ persisted: 0, dead: 1 })
          expect(seen).toMatchObject({ inside: [], failures: 1 })
          expect(seen.message).toContain(`a batch took longer than ${limit}ms`)
          expect((yield* picture).dead).toMatchObject([{ call_id: "a", attempts: 1 }])
        }),
        laboratory("Postgres 18", seen, [
          "create function tarry() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$",
          "create trigger tarry before insert on finding for each row execute function tarry()"
        ], { handlerTimeout: Duration.millis(limit) })
      )
    }
  )

  it.live("within a transaction of the caller's it is not used, and a rollback takes everything back", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* record("a", yield* finding("one"))
        yield* Effect.ignore(
          sql.withTransaction(Effect.andThen(Drain.Drain.use((drain) => drain.cycle), Effect.fail("no")))
        )
        expect((yield* picture).findings).toEqual([])
        expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
        expect(seen.inside).toEqual(["a"])
      }),
      laboratory("Postgres 18", seen)
    )
  })

  it.live("of answers with the same key the later stay for the next batch, and overwrite in their order", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        for (let n = 0; n < 12; n++) {
          yield* record(`c-${n}`, yield* Card.encode({ patient: `p${n % 3}`, ward: "w1", note: `note ${n}` }))
        }
        expect(yield* untilEmpty).toMatchObject({ claimed: 12, persisted: 12 })
        expect((yield* picture).cards.map((row) => row.note)).toEqual(["note 9", "note 10", "note 11"])
        expect(seen.inside.slice(0, 3)).toEqual(["c-0", "c-1", "c-2"])
      }),
      laboratory("Postgres 18", seen)
    )
  })

  it.live("an answer with a key is not written before an earlier one that has to be claimed", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        const card = (patient: string, note: string) => Card.encode({ patient, ward: "w1", note })
        yield* record("first", yield* card("p1", "first"))
        yield* record("other", yield* finding("in between"))
        yield* record("by hand", {
          ...yield* card("p2", "by hand"),
          data: { patient: "p2", ward: "w1", note: "by hand" }
        })
        yield* record("last", yield* card("p2", "last"))
        expect(yield* untilEmpty).toMatchObject({ claimed: 4, persisted: 4 })
        expect((yield* picture).cards.map((row) => row.note)).toEqual(["first", "last"])
        expect(seen.inside).toContain("first")
        expect(seen.inside).toContain("other")
      }),
      laboratory("Postgres 18", seen)
    )
  })

  it.live("what is left in the middle of a backlog is claimed before what stands behind it", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        yield* record("first", yield* finding("first"))
        yield* record("by hand", { schema: Finding.identity, version: 1, data: { text: "by hand" } })
        for (let n = 0; n < 8; n++) yield* record(`later-${n}`, yield* finding(`later ${n}`))
        const drain = yield* Drain.Drain
        const claim = Effect.scoped(
          Effect.flatMap(drain.claim({ mayRunLater: true }), (claimed) => Effect.as(claimed.run, claimed.chunks))
        )
        expect(yield* claim).toEqual([])
        expect(seen.inside).toEqual(["first"])
        expect((yield* claim).map(({ key }) => key.callId)).toEqual(["by hand", "later-0"])
        for (let n = 0; n < 4; n++) expect(yield* claim).toEqual([])
        expect(seen.inside).toHaveLength(8)
      }),
      laboratory("Postgres 18", seen, [], { batchSize: 2 })
    )
  })

  it.live("a scheduled answer is claimed at its turn, though a less urgent one was due before it", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        for (let n = 0; n < 8; n++) yield* record(`plain-${n}`, yield* finding(`plain ${n}`))
        yield* record("calm", yield* finding("calm"))
        yield* record("urgent", yield* finding("urgent"))
        const ago = (text: string) => sql`now() - ${text}::interval`
        yield* sql`update sluice.chunk_queue set rank = ${ago("1 hour")}`
        yield* sql`update sluice.chunk_queue set state = 'scheduled', due_at = ${ago("10 seconds")},
          rank = ${ago("10 seconds")} where call_id = 'calm'`
        yield* sql`update sluice.chunk_queue set state = 'scheduled', due_at = ${ago("5 seconds")},
          rank = ${ago("2 hours")} where call_id = 'urgent'`
        const drain = yield* Drain.Drain
        const claim = Effect.scoped(
          Effect.flatMap(drain.claim({ mayRunLater: true }), (claimed) => Effect.as(claimed.run, claimed.chunks))
        )
        yield* claim
        expect(seen.inside).toEqual(["plain-0", "plain-1"])
        expect((yield* claim).map(({ key }) => key.callId)).toContain("urgent")
        expect(seen.inside).toEqual(["plain-0", "plain-1"])
      }),
      laboratory("Postgres 18", seen, [], { batchSize: 2 })
    )
  })

  it.live("two drains side by side persist each answer once", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        const recorder = yield* CallRecorder.CallRecorder
        yield* recorder.recordMany(
          yield* Effect.forEach(Array.from({ length: 400 }), (_, n) =>
            Effect.map(finding(`text ${n}`), (output) => ({
              callId: `f-${n}`,
              namespace: "clinic",
              service: "services.clinic.laboratory.examine",
              context: { ward: "w1" },
              outputs: [output]
            })))
        )
        const other = yield* Effect.provide(Drain.Drain, Layer.fresh(Drain.layer))
        yield* Effect.all([untilEmpty, other.untilEmpty], { concurrency: 2 })
        yield* untilEmpty
        const { findings, ledger, queue } = yield* picture
        expect([findings.length, ledger.length, queue.length]).toEqual([400, 400, 0])
        expect(new Set(seen.inside).size).toBe(seen.inside.length)
        expect(seen.inside.length).toBeGreaterThan(0)
      }).pipe(Effect.scoped),
      laboratory("Postgres 18", seen, [], { batchSize: 20 })
    )
  })

  it.live("what is erased meanwhile is not persisted", () => {
    const seen = see()
    return Effect.provide(
      Effect.gen(function*() {
        for (const id of ["a", "b"]) yield* record(id, yield* finding(id))
        const erasure = yield* Erasure.Erasure
        yield* erasure.erase(Erasure.Subject.Call({ callId: "a" }), { because: "asked for", by: "the ward" })
        expect(yield* untilEmpty).toMatchObject({ claimed: 1, persisted: 1 })
        expect(seen.inside).toEqual(["b"])
      }),
      laboratory("Postgres 18", seen)
    )
  })
})

it.effect("a deadline that ends after the commit waits until the commit is announced, and the batch counts", () =>
  Effect.gen(function*() {
    let times = 0
    const chunk: PersistedInside = {
      key: { callId: "a", schemaIdentity: Finding.identity, part: "" },
      namespace: "clinic",
      service: "services.clinic.laboratory.examine",
      correlationId: "a",
      context: {},
      recordedAt: 0,
      objects: [{ type: "clinic.Finding", id: "1" }]
    }
    // what follows the commit takes ten seconds
    const slow = storeWith(() => ({
      persistInside: () =>
        Effect.suspend(() =>
          Effect.succeed({ chunks: times++ === 0 ? [chunk] : [], left: undefined, ended: true, last: true }).pipe(
            Effect.delay("10 seconds"),
            Effect.uninterruptible
          )
        )
    }))
    const heard = yield* DomainEvents.DomainEvents.use((events) => events.subscribe)
    const drain = yield* Layer.build(Layer.provide(Layer.fresh(Drain.layer), slow))
    const within = yield* Effect.forkChild(
      Effect.provide(Drain.Drain.use((drain) => drain.within("5 seconds")), drain)
    )
    yield* TestClock.adjust("1 minute")
    expect(yield* Fiber.join(within)).toMatchObject({ claimed: 1, persisted: 1 })
    expect(yield* Stream.runHead(heard)).toMatchObject({ value: { key: { callId: "a" } } })
    expect(times).toBe(1)
  }).pipe(Effect.scoped, Effect.provide(declared.application(declared.memory))))
