/**
 * A client that accepts shorter messages than a call may be long: what it cannot be given is set aside, and the rest goes
 * on.
 */
import { PgClient } from "@effect/sql-pg"
import { it } from "@effect/vitest"
import {
  CallRecorder,
  DeadLetters,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Inspector,
  Settings
} from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { expect } from "vitest"
import { Note, note, record } from "../support/clinic.ts"
import { untilEmpty } from "../support/drain.ts"
import { migratedDatabase } from "../support/Postgres.ts"

const handler = HandlerPlugin.layer(
  "clinic",
  Note,
  ({ call }) => Effect.succeed(DomainObject.make("clinic.Note", call.callId))
)

it.live(
  "an answer longer than the client's messages is a dead letter that says so, and the others are persisted",
  () =>
    Effect.gen(function*() {
      const url = yield* migratedDatabase()
      const store = PgStore.layer.pipe(
        Layer.provideMerge(Settings.layer()),
        Layer.provideMerge(PgClient.layer({ url: Redacted.make(url), maxConnections: 4, maxMessageSize: 1024 * 1024 }))
      )
      const application = Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
        Layer.provideMerge(HandlerRegistry.layer().pipe(Layer.provide(handler))),
        Layer.provideMerge(DomainEvents.layer),
        Layer.provideMerge(store)
      )
      yield* Effect.gen(function*() {
        yield* record(
          note("long", { text: "x".repeat(1_100_000) }),
          note("fits", { text: "x".repeat(900_000) }),
          note("short")
        )
        expect(yield* untilEmpty).toMatchObject({ claimed: 3, persisted: 2, dead: 1 })
        const letters = yield* (yield* DeadLetters.DeadLetters).list({}, { limit: 10 })
        expect(letters.map(({ key, message }) => [key.callId, message])).toEqual([
          ["long", expect.stringContaining("the client's maxMessageSize")]
        ])
        // what is shown of it leaves out what does not fit
        expect(Option.isSome(yield* (yield* Inspector.Inspector).call("long"))).toBe(true)
      }).pipe(Effect.provide(application))
    }).pipe(Effect.scoped),
  60_000
)
