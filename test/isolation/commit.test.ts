/**
 * What a handler's run leaves for after its end: effects for the commit, and nested transactions of fibers that outlive it.
 */
import { it } from "@effect/vitest"
import { CallRecorder, DomainEvents, Drain, EventLog, WakeUp } from "effect-sluice"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { describe, expect } from "vitest"
import { note, record } from "../support/clinic.ts"
import { cycle, untilEmpty } from "../support/drain.ts"
import { application, strays } from "./clinic.ts"

const ids = Array.from({ length: 12 }, (_, n) => `call-${n}`)
const isOdd = (callId: string) => Number(callId.split("-")[1]) % 2 === 1

for (const version of [18, 15] as const) {
  describe(`on Postgres ${version}`, () => {
    it.live(
      "a nested transaction that outlives its run keeps no mate waiting, and nobody is charged for it",
      () =>
        Effect.gen(function*() {
          yield* record(...ids.map((id) => note(id)))
          expect(yield* untilEmpty).toMatchObject({ persisted: ids.length, retried: 0 })
          expect(yield* strays).toEqual({ missing: null, unnamed: null })
          const sql = yield* SqlClient.SqlClient
          // what the forgotten fibers wrote was part of their runs
          expect(yield* sql`select seen, count(*)::int as n from looked group by 1 order by 1`)
            .toEqual([{ seen: "forgotten", n: 6 }, { seen: "nested", n: 6 }])
        }).pipe(Effect.provide(application({
          version,
          handler: { timeout: "20 seconds" },
          deed: (sql, { call }) =>
            isOdd(call.callId)
              ? sql.withTransaction(sql`insert into looked values ('nested')`)
              : Effect.gen(function*() {
                const written = yield* Deferred.make<void>()
                yield* Effect.forkDetach(
                  sql.withTransaction(
                    sql`insert into looked values ('forgotten')`.pipe(
                      Effect.andThen(Deferred.succeed(written, undefined)),
                      Effect.andThen(Effect.never)
                    )
                  )
                )
                yield* Deferred.await(written)
              })
        }))),
      60_000
    )
  })
}

it.live(
  "what a run registers for the commit may record a call, and have it persisted",
  () =>
    Effect.gen(function*() {
      const after: Array<Effect.Effect<unknown, unknown>> = []
      const program = Effect.gen(function*() {
        const recorder = yield* CallRecorder.CallRecorder
        const drain = yield* Drain.Drain
        after.push(
          recorder.record(note("next-1")),
          Effect.andThen(recorder.record(note("next-2")), drain.persistNow("next-2"))
        )
        yield* record(note("first-1"), note("first-2"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 3 })
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`select call_id from note order by 1`)
          .toEqual(["first-1", "first-2", "next-1", "next-2"].map((call_id) => ({ call_id })))
      })
      yield* Effect.provide(
        program,
        application({
          deed: (sql, { call }) =>
            call.callId === "first-1"
              ? Effect.forEach(after, (effect) => sql.afterCommit(Effect.asVoid(Effect.orDie(effect))))
              : Effect.void
        })
      )
    }),
  60_000
)

it.live(
  "what a run registers for the commit and what never ends is waited for no longer than a run",
  () =>
    Effect.gen(function*() {
      yield* record(...ids.map((id) => note(id)))
      expect(yield* untilEmpty).toMatchObject({ persisted: ids.length })
      expect(yield* strays).toEqual({ missing: null, unnamed: null })
    }).pipe(Effect.provide(application({
      handler: { timeout: "2 seconds" },
      settings: { batchSize: 4, inFlight: 1 },
      deed: (sql, { call }) => call.callId === "call-1" ? sql.afterCommit(Effect.never) : Effect.void
    }))),
  60_000
)

it.live(
  "an effect that a run registers for the commit, and that never ends, holds up no hint and no end of a call",
  () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      yield* log.open("ends", "beginning", "calls")
      const hints = yield* (yield* WakeUp.WakeUp).hear("events")
      yield* record(note("call-1"))
      expect(yield* cycle).toMatchObject({ persisted: 1 })
      expect(yield* Stream.runHead(hints)).toMatchObject({ _tag: "Some" })
      // otherwise a beat at the next cycle would tell it, and there is none. Transactions of other tests may hold it back.
      const taken = yield* log.take("ends", {
        feed: "calls",
        limit: 1,
        maxBytes: 1e6,
        lease: Duration.minutes(1),
        reader: "test"
      }).pipe(Effect.repeat({ until: Option.isSome, schedule: Schedule.spaced("20 millis") }))
      expect(taken).toMatchObject({ value: { entries: [{ ended: { callId: "call-1" } }] } })
    }).pipe(
      Effect.scoped,
      Effect.provide(application({
        handler: { timeout: "1 second" },
        settings: { beatInterval: Duration.zero, listen: false },
        deed: (sql) => sql.afterCommit(Effect.never)
      }))
    ),
  60_000
)

it.live(
  "a committed batch counts as persisted and is announced, even if the drain is interrupted right after the commit",
  () => {
    const committed = Deferred.makeUnsafe<void>()
    return Effect.gen(function*() {
      const heard = yield* (yield* DomainEvents.DomainEvents).subscribe
      yield* record(note("call-1"))
      const claimed = yield* Drain.Drain.use((drain) => drain.claim())
      const running = yield* Effect.forkChild(claimed.run)
      yield* Deferred.await(committed)
      yield* Fiber.interrupt(running)
      expect(claimed.report()).toMatchObject({ claimed: 1, persisted: 1 })
      expect(yield* Stream.runHead(heard)).toMatchObject({ value: { key: { callId: "call-1" } } })
    }).pipe(
      Effect.scoped,
      Effect.provide(application({
        handler: { timeout: "1 second" },
        deed: (sql) => sql.afterCommit(Effect.andThen(Deferred.succeed(committed, undefined), Effect.never))
      }))
    )
  },
  60_000
)
