/**
 * A parked chunk: `persistNow` and `recordNow` say why it is parked, and what to do.
 */
import { describe, expect, it } from "@effect/vitest"
import { ChunkStore, Drain, HandlerPlugin, HandlerRegistry, Pauses } from "effect-sluice"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { application, Note, note, record } from "../support/clinic.ts"
import * as declared from "../support/declared.ts"
import { Card } from "../support/declared.ts"
import { persistNow, untilEmpty } from "../support/drain.ts"

class Beds extends Context.Service<Beds, number>()("clinic/Beds") {}

const parkAs = (reason: "no-handler" | "newer-version") =>
  ChunkStore.ChunkStore.use((store) =>
    Effect.flatMap(
      store.claim({ worker: "other", limit: 10, maxBytes: 1e9, lease: Duration.minutes(1) }),
      ({ chunks, token }) => store.settle(token, chunks.map((chunk) => ChunkStore.Settlement.Park({ chunk, reason })))
    )
  )

describe("persistNow says why a chunk is parked", () => {
  it.effect("for a pause", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      yield* Pauses.Pauses.use((pauses) => pauses.pause({ namespace: "clinic", schemaIdentity: "*" }, "it moves"))
      const error = yield* Effect.flip(persistNow("a"))
      expect(error).toMatchObject({ _tag: "ChunkBusy", state: "parked", parkedFor: "paused" })
      expect(error.message).toBe(
        `${Note.identity} of call a is parked: its kind is paused, and \`sluice status\` shows why. ` +
          "It is persisted after `sluice resume`"
      )
    }).pipe(Effect.provide(application())))

  it.effect("by another program, which had no handler or an older one", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      yield* parkAs("no-handler")
      const error = yield* Effect.flip(persistNow("a"))
      expect(error).toMatchObject({ _tag: "ChunkBusy", state: "parked", parkedFor: "no-handler" })
      expect(error.message).toMatch(/no worker so far had a handler for it that could run.* A worker that has one/)
      yield* untilEmpty
      yield* record(note("b"))
      yield* parkAs("newer-version")
      const newer = yield* Effect.flip(persistNow("b"))
      expect(newer).toMatchObject({ _tag: "ChunkBusy", parkedFor: "newer-version" })
      expect(newer.message).toMatch(/a newer version than any worker so far reads.* A worker that reads it/)
    }).pipe(Effect.provide(application())))

  it.effect("for a service that was not provided", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      for (let n = 0; n < 2; n++) {
        const error = yield* Effect.flip(persistNow("a"))
        expect(error).toMatchObject({ _tag: "ChunkBusy", parkedFor: "no-handler" })
        expect(error.message).toMatch(/needs the service clinic\/Beds, which was not provided.* A program that has it/)
      }
    }).pipe(Effect.provide(application(
      {},
      HandlerRegistry.layer().pipe(
        // loaded by its name, where no compiler sees what it requires
        Layer.provide(HandlerPlugin.layer("clinic", Note, () => Effect.asVoid(Beds)) as Layer.Layer<never>)
      )
    ))))
})

const called = Effect.fnUntraced(function*(callId: string) {
  const { recordNow } = yield* Drain.Drain
  return yield* recordNow({
    callId,
    namespace: "clinic",
    service: "services.clinic.laboratory.examine",
    context: { ward: "w1" },
    finishedAt: DateTime.makeUnsafe("2026-05-05T05:05:05.500Z"),
    outputs: [yield* Card.encode({ patient: callId, ward: "w1", note: "rests" })]
  })
})

describe("recordNow and persistNow name", () => {
  it.live("a table that does not fit is named, until it is repaired", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`alter table card rename note to remark`
      for (const callId of ["a", "b"]) {
        for (const now of [called(callId), persistNow(callId)]) {
          const error = yield* Effect.flip(now)
          expect(error).toMatchObject({ _tag: "ChunkBusy", state: "parked", parkedFor: "no-handler" })
          expect(error.message).toBe(
            `${Card.identity} of call ${callId} is parked: table card does not fit its declaration: it has no column ` +
              "\"note\" (`sluice handlers` shows more). It is persisted by a worker when the table is repaired"
          )
        }
      }
      // no worker beats here, so nobody else looks at the table
      yield* sql`alter table card rename remark to note`
      expect((yield* Effect.flip(persistNow("a"))).message).toContain("A worker that has one")
      expect(yield* called("c")).toHaveLength(1)
      expect(yield* untilEmpty).toMatchObject({ persisted: 2 })
    }).pipe(Effect.provide(declared.application(declared.servers.PGlite()))))

  it.live("a key without a unique index, also in a transaction of the caller's, which continues", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`alter table card drop constraint card_patient_key`
      expect((yield* Effect.flip(called("a"))).message).toContain(
        "table card does not fit its declaration: its key (\"patient\") has no unique index that covers all rows: " +
          "`create unique index on card (\"patient\")`"
      )
      yield* sql.withTransaction(Effect.gen(function*() {
        expect(yield* Effect.flip(persistNow("a"))).toMatchObject({ _tag: "ChunkBusy", state: "parked" })
        expect(yield* Effect.flip(called("b"))).toMatchObject({ _tag: "ChunkBusy", state: "parked" })
        yield* sql`create unique index on card ("patient")`
      }))
      expect(yield* untilEmpty).toMatchObject({ persisted: 2 })
    }).pipe(Effect.provide(declared.application(declared.servers.PGlite()))))
})
