/**
 * What a worker says of its declared handlers: how many answers were persisted inside, how many by claims and why, and what
 * the database refuses.
 */
import { describe, expect, it } from "@effect/vitest"
import { ChunkStore, Drain, HandlerRegistry, Inspector } from "effect-sluice"
import { ChunkStoreError } from "effect-sluice/ChunkStore"
import type * as Settings from "effect-sluice/Settings"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as SqlClient from "effect/sql/SqlClient"
import * as InsideUse from "../../src/drain/insideUse.ts"
import * as declared from "../support/declared.ts"
import { Card, Finding, finding, record } from "../support/declared.ts"
import { chunkOf, cycle, untilEmpty } from "../support/drain.ts"

/** What the worker's row says, by handler. */
const uses = Effect.gen(function*() {
  yield* cycle
  const [worker] = yield* Inspector.Inspector.use((inspector) => inspector.workers())
  return Object.fromEntries((worker?.inside ?? []).map(({ handler, ...use }) => [handler, use]))
})

/** The laboratory, whose worker beats at each cycle and at no other time; and the warnings of the log. */
const laboratory = (
  lines: Array<string>,
  more: ReadonlyArray<string> = [],
  settings: Partial<Settings.Values> = {}
) => over(declared.servers["Postgres 18"](more), lines, settings)

const over = <More>(store: declared.Store<More>, lines: Array<string>, settings: Partial<Settings.Values> = {}) =>
  declared.application(store, { beatInterval: Duration.zero, ...settings }).pipe(
    Layer.provideMerge(Logger.layer([Logger.make(({ logLevel, message }) => {
      if (logLevel === "Warn") lines.push(String(message))
    })]))
  )

describe("a worker counts, for each declared handler", () => {
  it.live("how many answers were persisted inside, how many by claims, and why", () =>
    Effect.gen(function*() {
      yield* record("a", yield* finding("plain"))
      yield* record("b", yield* finding("plain"))
      yield* record("card", yield* Card.encode({ patient: "p1", ward: "w1", note: "one" }))
      yield* untilEmpty
      yield* record("old", { schema: Finding.identity, version: 1, data: { text: "of version 1" } })
      yield* untilEmpty
      const { data } = yield* finding("by hand")
      yield* record("by hand", { schema: Finding.identity, version: 2, data: structuredClone(data) })
      yield* untilEmpty
      yield* record("key", yield* finding("of a key"), { orderingKey: "k" })
      yield* untilEmpty
      yield* record("inline", yield* finding("now"))
      yield* Drain.Drain.use((drain) => drain.persistNow("inline"))
      // not persisted, so not counted
      yield* record("bad", yield* finding("bad"))
      yield* untilEmpty
      expect(yield* chunkOf("bad")).toMatchObject({ state: "dead" })
      const none = { inside: 0, claimed: {}, refusal: null, unfit: null }
      expect(yield* uses).toEqual({
        "clinic/finding": {
          inside: expect.any(Number),
          claimed: expect.objectContaining({ version: 1, fingerprint: 1, inline: 1 }),
          refusal: null,
          unfit: null
        },
        "clinic/order": none,
        "clinic/card": { ...none, inside: 1 }
      })
      const { claimed = {}, inside = 0 } = (yield* uses)["clinic/finding"] ?? {}
      expect(inside + Object.values(claimed).reduce((sum, one) => sum + one, 0)).toBe(6)
    }).pipe(Effect.provide(laboratory([]))))

  it.live("and those that a claim of `recordNow` gave back as any other", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const hold = { token: "00000000-0000-4000-8000-000000000001", worker: "w", lease: Duration.minutes(1) }
      const service = "services.clinic.laboratory.examine"
      const outputs = [yield* finding("plain")]
      const call = { callId: "a", namespace: "clinic", service, context: { ward: "w1" }, outputs }
      expect(yield* store.recordHeld(call, hold)).toHaveLength(1)
      yield* store.giveUp(hold.token)
      yield* untilEmpty
      expect((yield* uses)["clinic/finding"]).toMatchObject({ inside: 1, claimed: {} })
    }).pipe(Effect.provide(laboratory([]))))

  it.live("that it is turned off", () =>
    Effect.gen(function*() {
      yield* record("a", yield* finding("plain"))
      yield* untilEmpty
      expect((yield* uses)["clinic/finding"]).toEqual({ inside: 0, claimed: { off: 1 }, refusal: null, unfit: null })
    }).pipe(Effect.provide(laboratory([], [], { declaredInside: false }))))

  it.live("that the store does not persist by itself", () =>
    Effect.gen(function*() {
      yield* record("a", yield* finding("plain"))
      yield* untilEmpty
      expect((yield* uses)["clinic/finding"]).toEqual({ inside: 0, claimed: { unable: 1 }, refusal: null, unfit: null })
    }).pipe(Effect.provide(over(declared.memory, []))))
})

describe("what the database never persists inside", () => {
  /** Fails within the statement that also writes the ledger, and not within that of a claim. */
  const picky = [
    `create function picky() returns trigger language plpgsql as $$ begin
      if pg_catalog.current_query() like '%persisted_chunk%' then raise exception 'not together with others'; end if;
      return new;
    end $$`,
    "create trigger picky before insert on finding for each row execute function picky()"
  ]
  const times = Array.from({ length: 8 }, (_, n) => `call-${n}`)

  it.live("is a warning, once, and shown until it works again", () => {
    const lines: Array<string> = []
    let later = 0
    return Effect.gen(function*() {
      for (const callId of times) {
        yield* record(callId, yield* finding("plain"))
        yield* untilEmpty
        expect(yield* chunkOf(callId)).toMatchObject({ state: "persisted", attempts: 0 })
      }
      expect(lines).toEqual([
        expect.stringMatching(
          /no answer of handler clinic\/finding by itself: not together with others \(P0001\)\. .*trigger/
        )
      ])
      expect((yield* uses)["clinic/finding"]).toMatchObject({
        inside: 0,
        claimed: { refused: expect.any(Number) },
        refusal: "not together with others (P0001)"
      })
      yield* SqlClient.SqlClient.use((sql) => sql`drop trigger picky on finding`)
      // its next try comes after some claims
      yield* Effect.gen(function*() {
        yield* record(`later-${++later}`, yield* finding("plain"))
        yield* untilEmpty
        return (yield* uses)["clinic/finding"]?.refusal
      }).pipe(Effect.repeat({ until: (refusal) => refusal === null, times: 60 }))
      expect((yield* uses)["clinic/finding"]).toMatchObject({ inside: 1, refusal: null })
      expect(lines).toHaveLength(1)
    }).pipe(Effect.provide(laboratory(lines, picky)))
  })

  it.live("is not what refuses single answers: these are charged, and no warning", () => {
    const lines: Array<string> = []
    return Effect.gen(function*() {
      for (const callId of times) {
        yield* record(callId, yield* finding("bad"))
        yield* untilEmpty
        expect(yield* chunkOf(callId)).toMatchObject({ state: "dead" })
      }
      expect(lines.filter((line) => line.includes("by itself"))).toEqual([])
      expect((yield* uses)["clinic/finding"]).toMatchObject({ refusal: null })
    }).pipe(Effect.provide(laboratory(lines)))
  })
})

describe("tries that failed in a row", () => {
  /** The warnings after so many failures, between which this worker has found no answer at fault. */
  const warnings = Effect.fnUntraced(function*(code: string) {
    const lines: Array<string> = []
    const registry = yield* HandlerRegistry.HandlerRegistry
    const uses = InsideUse.make(registry, true)
    const error = new ChunkStoreError({ operation: "persistInside", transient: false, reason: "refused", code })
    for (let n = 0; n < 10; n++) {
      yield* Effect.provide(
        uses.failed(registry.list[0]!, error),
        Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
      )
    }
    return lines
  }, Effect.provide(Layer.provide(HandlerRegistry.layer(declared.Laboratory), declared.handlers)))

  it.effect("are no lasting refusal if rows were refused: another worker may have claimed and charged them", () =>
    Effect.gen(function*() {
      expect(yield* warnings("23514")).toEqual([])
      expect(yield* warnings("22001")).toEqual([])
    }))

  it.effect("are one if the statement itself was refused, also by its own check", () =>
    Effect.gen(function*() {
      expect(yield* warnings("42501")).toHaveLength(1)
      expect(yield* warnings("22012")).toHaveLength(1)
    }))
})
