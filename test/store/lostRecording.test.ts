/**
 * `recordNow` on real Postgres, when the statement that records a call beside its handlers commits and its answer is lost:
 * the call is recorded once, and its handlers run once.
 */
import { layer } from "@effect/vitest"
import { DomainEvents, DomainObject, Drain, HandlerPlugin, HandlerRegistry, Output, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import { away, chunkOf, drainWith } from "../support/drain.ts"
import * as Postgres from "../support/Postgres.ts"

class Note extends Output.make("schemas.clinic.ward.note", { schema: Schema.Struct({ text: Schema.String }) }) {}

const runs = new Map<string, number>()
const gates = new Map<string, Latch.Latch>()

const notes = HandlerPlugin.layer("clinic", Note, {
  persist: Effect.fnUntraced(function*({ call: { callId }, output }) {
    const sql = yield* SqlClient.SqlClient
    runs.set(callId, (runs.get(callId) ?? 0) + 1)
    const rows = yield* sql<{ id: number }>`insert into note (text) values (${output.text}) returning id`
    yield* gates.get(callId)!.await
    return rows.map(({ id }) => DomainObject.make("clinic.Note", id))
  })
})

const table = Layer.effectDiscard(
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create table note (id serial primary key, text text not null)`)
)

const application = HandlerRegistry.layer().pipe(
  Layer.provide(notes),
  Layer.provideMerge(DomainEvents.layer),
  Layer.provideMerge(Layer.merge(PgStore.layer, table)),
  Layer.provideMerge(Settings.layer({ recordWithin: "10 millis" })),
  Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer())))
)

const call = (callId: string) => ({
  callId,
  namespace: "clinic",
  service: "services.clinic.ward.ask",
  outputs: [{ schema: Note.identity, version: 1, data: { text: callId } }]
})

layer(application, { excludeTestServices: true, timeout: 60_000 })("recordNow of a slow call", (it) => {
  for (const [when, lost] of [["one answer is lost", 1], ["every answer is lost", Infinity]] as const) {
    it.effect(`runs the handler once when ${when} of its recording`, () =>
      Effect.gen(function*() {
        const callId = when
        const gate = Latch.makeUnsafe(false)
        gates.set(callId, gate)
        let sent = 0
        const drain = yield* Layer.build(drainWith((store) => ({
          recordHeld: (call, hold) =>
            Effect.flatMap(store.recordHeld(call, hold), (seqs) => {
              sent++
              // the handler is still running when the recording is sent again
              if (sent > 1) gate.openUnsafe()
              return sent > lost ? Effect.succeed(seqs) : Effect.fail(away("recordHeld"))
            })
        })))
        const fiber = yield* Effect.forkChild(
          Effect.provide(Drain.Drain.use((drain) => drain.recordNow(call(callId))), drain)
        )
        expect(yield* Fiber.join(fiber)).toHaveLength(1)
        expect(runs.get(callId)).toBe(1)
        expect(yield* chunkOf(callId)).toMatchObject({ state: "persisted", attempts: 0, crashes: 0 })
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`select count(*)::int as notes from note where text = ${callId}`).toEqual([{ notes: 1 }])
      }).pipe(Effect.scoped))
  }
})
