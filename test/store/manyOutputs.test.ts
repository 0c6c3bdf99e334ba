/**
 * Calls and letters that hold much. What a call with many outputs costs the server is seen in the blocks that it reads of
 * what was moved out of line, which is a call's `outputs` once for each time that it unpacks them.
 */
import { it } from "@effect/vitest"
import { ChunkStore, DeadLetters } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { randomBytes } from "node:crypto"
import { describe, expect } from "vitest"
import { call, keyOf, record, reply, settle } from "../contract/operators/dialogues.ts"
import * as inspect from "../support/inspect.ts"
import * as Postgres from "../support/Postgres.ts"

/** Blocks that were read of the out-of-line parts of `service_call` so far. */
const blocks = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`select pg_stat_force_next_flush()`
  const [row] = yield* sql<{ blocks: number }>`
    select (toast_blks_hit + toast_blks_read)::float8 as blocks from pg_statio_user_tables where relname = 'service_call'`
  return row!.blocks
})

describe.each([15, 18] as const)("a call with many outputs, on Postgres %i", (version) => {
  // the figures are those of one session
  const onPostgres = PgStore.layer.pipe(Layer.provideMerge(Postgres.layer(version, { maxConnections: 1 })))

  it.live("is unpacked a few times a claim, and not once for each chunk", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const store = yield* ChunkStore.ChunkStore
      yield* record(call("many", {
        // what compresses is small, and then it is not seen
        outputs: Array.from({ length: 1000 }, (_, n) => ({
          schema: reply,
          version: 1,
          part: `${n}`,
          data: randomBytes(1000).toString("base64")
        }))
      }))
      const before = yield* blocks
      yield* sql`select cardinality(outputs) from sluice.service_call`
      const once = (yield* blocks) - before
      expect(once).toBeGreaterThan(100)
      for (let round = 0; round < 5; round++) {
        const start = yield* blocks
        const { chunks } = yield* store.claim({ worker: "w", limit: 100, maxBytes: 1e9, lease: Duration.minutes(1) })
        expect(chunks).toHaveLength(100)
        // the first four, how many there are, and the rest of them together
        expect((yield* blocks) - start).toBeLessThan(8 * once)
      }
    }).pipe(Effect.provide(onPostgres)), 60_000)

  it.live(
    "whose input a hand has made too long for a message is handed out to nobody, and its mates are",
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const store = yield* ChunkStore.ChunkStore
        const outputs = Array.from({ length: 8 }, (_, n) => ({ schema: reply, version: 1, part: `${n}`, data: n }))
        yield* record(call("before", { outputs }), call("long", { outputs }), call("after", { outputs }))
        yield* sql`update sluice.service_call set input = to_json(repeat('x', 16000000)) where call_id = 'long'`
        yield* sql`update sluice.service_call set outputs[7] = to_json(repeat('x', 16000000)) where call_id = 'after'`
        const { chunks } = yield* store.claim({ worker: "w", limit: 100, maxBytes: 1e9, lease: Duration.minutes(1) })
        const isLong = (callId: string, part: string) => callId === "long" || (callId === "after" && part === "6")
        expect(
          chunks.map((
            { key, payload }
          ) => [
            key.callId,
            key.part,
            "data" in payload ? payload.data : undefined,
            "withheld" in payload && /more than is handed out/.test(payload.withheld)
          ])
        )
          .toEqual(
            ["before", "long", "after"].flatMap((callId) =>
              outputs.map(({ data, part }) =>
                isLong(callId, part) ? [callId, part, undefined, true] : [callId, part, data, false]
              )
            )
          )
        expect(chunks.find(({ key }) => key.callId === "after")?.call.input).toEqual(call("a").input)
      }).pipe(Effect.provide(onPostgres)),
    60_000
  )

  it.live(
    "and a dead letter with more failures than a message holds is inspected with all of them",
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* record(call("a", {}, { data: { text: "x".repeat(11_000_000) } }))
        yield* settle({ dead: "exhausted" })
        // as after many redrives: each is 48 kB where it is read
        yield* sql`insert into sluice.chunk_failure (call_id, schema_identity, attempt, handler, kind, message)
        select 'a', ${reply}, n, '', 'failed', repeat(chr(1), 8000) from generate_series(1, 200) n`
        const detail = Option.getOrThrow(yield* DeadLetters.DeadLetters.use((letters) => letters.inspect(keyOf("a"))))
        expect(detail.failures.slice(1).map(({ attempt }) => attempt)).toEqual(
          Array.from({ length: 200 }, (_, n) => n + 1)
        )
        const view = Option.getOrThrow(yield* inspect.call("a"))
        expect(view.chunks[0]?.failures).toHaveLength(201)
      }).pipe(Effect.provide(onPostgres)),
    60_000
  )
})
