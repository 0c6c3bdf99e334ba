/**
 * A declared table that another session keeps locked, as `alter table` does in a transaction that stays open: its answers
 * wait, and those of other handlers do not. And an end of calls that waits for a lock: what is committed is announced.
 */
import { describe, expect, it } from "@effect/vitest"
import { DomainEvents, Drain, DrainWorker, EventLog, HandlerRegistry, Inspector } from "effect-sluice"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { TableUnfit } from "../../src/Declaration.ts"
import * as Unfit from "../../src/drain/unfit.ts"
import * as declared from "../support/declared.ts"
import { Card, finding, record } from "../support/declared.ts"
import { chunkOf, untilEmpty } from "../support/drain.ts"
import { untilIt } from "../support/until.ts"

const card = Card.encode({ patient: "p1", ward: "w1", note: "rests" })

/** A session that has sent a statement and keeps its transaction open, until it is let go or the scope closes. */
const holding = Effect.fnUntraced(function*(statement: string) {
  const sql = yield* SqlClient.SqlClient
  const held = yield* Deferred.make<void>()
  const enough = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkScoped(
    sql.withTransaction(
      Effect.andThen(
        sql.unsafe(statement),
        Effect.andThen(Deferred.succeed(held, undefined), Deferred.await(enough))
      )
    )
  )
  yield* Effect.raceFirst(Deferred.await(held), Fiber.join(fiber))
  return Effect.andThen(Deferred.succeed(enough, undefined), Fiber.join(fiber))
})

const alter = "alter table card add column seen boolean"

/** No run may end by its own time limit here. */
const long = { handlerTimeout: Duration.minutes(10) }

const laboratory = (lines: Array<string>, settings: Parameters<typeof declared.application>[1]) =>
  declared.application(declared.servers["Postgres 18"](), settings).pipe(
    Layer.provideMerge(Logger.layer([Logger.make(({ logLevel, message }) => {
      if (logLevel === "Warn") lines.push(String(message))
    })]))
  )

const state = (callId: string) => Effect.map(chunkOf(callId), (chunk) => chunk.state)

describe("while a table is locked", () => {
  for (const declaredInside of [true, false]) {
    it.live(`a worker goes on with the other handlers, ${declaredInside ? "inside" : "by claims"}`, () => {
      const lines: Array<string> = []
      return Effect.gen(function*() {
        yield* record("card", yield* card)
        const letGo = yield* holding(alter)
        yield* Layer.build(DrainWorker.layer())
        yield* untilIt(Effect.sync(() => lines), (all) => all.length > 0)
        for (const callId of ["a", "b", "c"]) {
          yield* record(callId, yield* finding("plain"))
          yield* untilIt(state(callId), (is) => is === "persisted")
        }
        expect((yield* chunkOf("card")).ledger).toBe(null)
        yield* letGo
        yield* untilIt(state("card"), (is) => is === "persisted")
        expect(yield* chunkOf("card")).toMatchObject({ attempts: 0, crashes: 0, failures: [] })
        expect(lines).toEqual([expect.stringMatching(/^handler clinic\/card waits: .* a lock on table card\. /)])
      }).pipe(
        Effect.scoped,
        Effect.provide(laboratory(lines, { ...long, declaredInside, inFlight: 1, pollInterval: Duration.millis(100) }))
      )
    }, 60_000)
  }

  it.live("a drain until empty waits for it, and persists it when the lock is gone", () => {
    const lines: Array<string> = []
    return Effect.gen(function*() {
      yield* record("card", yield* card)
      yield* record("a", yield* finding("plain"))
      const letGo = yield* holding(alter)
      const draining = yield* Effect.forkChild(untilEmpty)
      yield* untilIt(state("a"), (is) => is === "persisted")
      yield* untilIt(Effect.sync(() => lines), (all) => all.length > 0)
      yield* letGo
      expect(yield* Fiber.join(draining)).toMatchObject({ claimed: 2, persisted: 2, retried: 0 })
    }).pipe(Effect.scoped, Effect.provide(laboratory(lines, long)))
  }, 60_000)

  it.live("a drain until empty leaves it due after the time that a run may take", () =>
    Effect.gen(function*() {
      yield* record("card", yield* card)
      yield* holding(alter)
      expect(yield* untilEmpty).toMatchObject({ claimed: 0 })
      expect(yield* chunkOf("card")).toMatchObject({ state: "ready", attempts: 0 })
    }).pipe(Effect.scoped, Effect.provide(laboratory([], { handlerTimeout: Duration.seconds(3) }))), 60_000)

  it.live("recordNow records the call, and has its rows when the lock is gone", () => {
    const lines: Array<string> = []
    return Effect.gen(function*() {
      const letGo = yield* holding(alter)
      const now = yield* Effect.forkChild(Effect.flatMap(card, (output) =>
        Drain.Drain.use((drain) =>
          drain.recordNow({
            callId: "card",
            namespace: "clinic",
            service: "services.clinic.laboratory.examine",
            outputs: [output]
          })
        )))
      yield* untilIt(
        Inspector.Inspector.use((inspector) => inspector.call("card")),
        (view) => view._tag === "Some"
      )
      yield* letGo
      expect(yield* Fiber.join(now)).toHaveLength(1)
      expect(yield* chunkOf("card")).toMatchObject({ state: "persisted", attempts: 0 })
    }).pipe(Effect.scoped, Effect.provide(laboratory(lines, long)))
  }, 60_000)
})

it.effect("tables that do not fit are looked at side by side, and none keeps another from its turn", () =>
  Effect.gen(function*() {
    const registry = yield* HandlerRegistry.HandlerRegistry
    const names = Array.from({ length: 10 }, (_, n) => `table_${n}`)
    const looked = new Set<string>()
    const unfit = Unfit.make(registry, ({ table }) =>
      Effect.suspend(() => {
        looked.add(table)
        return Effect.never
      }))
    const { declaration } = declared.findings
    for (const table of names) {
      const handler = { ...registry.list[0]!, name: table, declaration: { ...declaration, table } }
      yield* unfit.learn(handler, Cause.fail(new TableUnfit({ table, reason: "there is no such table" })))
    }
    const beat = Effect.gen(function*() {
      const looking = yield* Effect.forkChild(unfit.lookAgain)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(looking)
    })
    yield* beat
    yield* beat
    yield* beat
    expect([...looked]).toEqual(names)
  }).pipe(
    Effect.provide(Layer.provide(HandlerRegistry.layer(declared.Laboratory), declared.handlers)),
    Effect.provide(Logger.layer([]))
  ))

describe("what is committed is announced", () => {
  it.live("although the end of its call waits for a lock for longer than a run may take", () =>
    Effect.gen(function*() {
      yield* EventLog.EventLog.use((log) => log.open("ends", "beginning", "calls"))
      yield* record("first", yield* finding("plain"))
      yield* untilEmpty
      const heard = yield* DomainEvents.DomainEvents.use((events) => events.subscribe)
      yield* record("a", yield* finding("plain"))
      yield* holding("lock table sluice.open_call in access exclusive mode")
      expect(yield* Drain.Drain.use((drain) => drain.cycle)).toMatchObject({ claimed: 1, persisted: 1 })
      const event = yield* Stream.runCollect(Stream.take(heard, 1))
      expect(event).toMatchObject([{ key: { callId: "a" } }])
    }).pipe(Effect.scoped, Effect.provide(laboratory([], { handlerTimeout: Duration.seconds(2) }))), 60_000)
})
