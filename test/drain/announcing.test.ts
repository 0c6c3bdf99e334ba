/**
 * An application's own `DomainEvents`, whose `publish` hangs or fails: an interrupted caller ends, and what is committed
 * stays committed.
 */
import { describe, expect, it } from "@effect/vitest"
import { CallRecorder, ChunkLedger, ChunkStore, DomainEvents, DomainObject, Drain } from "effect-sluice"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as declared from "../support/declared.ts"
import { Card, record } from "../support/declared.ts"

const card = Card.encode({ patient: "p1", ward: "w1", note: "is announced" })

/** Publishing of the drain and the ledger under test. */
const publishing = (publish: Effect.Effect<void>) =>
  Layer.effect(
    DomainEvents.DomainEvents,
    Effect.map(
      DomainEvents.DomainEvents,
      (events) => DomainEvents.DomainEvents.of({ ...events, publish: () => publish })
    )
  ).pipe(Layer.fresh)

const underTest = (publish: Effect.Effect<void>) =>
  Layer.mergeAll(Layer.fresh(Drain.layer), Layer.fresh(ChunkLedger.layer)).pipe(Layer.provide(publishing(publish)))

const once = Effect.flatMap(ChunkLedger.ChunkLedger, (ledger) =>
  ledger.once(
    { callId: "a", schemaIdentity: Card.identity, part: "" },
    { namespace: "clinic" },
    Effect.succeed([DomainObject.make("clinic.Card", 1)])
  ))

const ledger = ChunkStore.ChunkStore.use((store) =>
  store.ledger([{ callId: "a", schemaIdentity: Card.identity, part: "" }])
)

type Needed = ChunkLedger.ChunkLedger | CallRecorder.CallRecorder | Drain.Drain

const ways: Readonly<Record<string, Effect.Effect<unknown, unknown, Needed>>> = {
  "a drain": Effect.andThen(
    Effect.flatMap(card, (output) => record("a", output)),
    Drain.Drain.use((drain) => drain.cycle)
  ),
  "recordNow": Effect.flatMap(card, (output) =>
    Drain.Drain.use((drain) =>
      drain.recordNow({
        callId: "a",
        namespace: "clinic",
        service: "services.clinic.laboratory.examine",
        context: { ward: "w1" },
        outputs: [output]
      })
    )),
  "ChunkLedger.once": once
}

const stores: Readonly<Record<string, declared.Store>> = {
  "Postgres 18": declared.servers["Postgres 18"](),
  memory: declared.memory
}

for (const [name, store] of Object.entries(stores)) {
  const application = () => declared.application(store, { recordWithin: Duration.minutes(10) })
  describe(name, () => {
    for (const [verb, way] of Object.entries(ways)) {
      it.live(`${verb} whose publication hangs can be interrupted`, () =>
        Effect.gen(function*() {
          const reached = yield* Deferred.make<void>()
          const hangs = Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
          const fiber = yield* Effect.forkChild(Effect.provide(way, underTest(hangs)))
          yield* Effect.raceFirst(Deferred.await(reached), Fiber.join(fiber))
          yield* Fiber.interrupt(fiber)
          expect(yield* ledger).toHaveLength(1)
        }).pipe(Effect.provide(application())))

      it.live(`${verb} whose publication fails has persisted`, () =>
        Effect.gen(function*() {
          const exit = yield* Effect.exit(Effect.provide(way, underTest(Effect.die(new Error("no listener")))))
          expect(Exit.isSuccess(exit)).toBe(true)
          expect(yield* ledger).toHaveLength(1)
        }).pipe(Effect.provide(application())))
    }
  })
}
