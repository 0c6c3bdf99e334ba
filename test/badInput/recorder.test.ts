/**
 * Bad input at the recorder: what cannot be stored is refused before anything is written, in words that name call and
 * path; what only looks bad is stored as it was given. On memory, and on a Postgres, which has its own idea of JSON.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, ChunkStore, type ServiceCall, Settings } from "effect-sluice"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { describe, expect } from "vitest"
import { call } from "../contract/operators/dialogues.ts"
import { fine, maxResultBytes, noTraces, refused } from "../support/calls.ts"
import * as Postgres from "../support/Postgres.ts"

const stores = [
  ["memory", MemoryStore.layer],
  ["Postgres 18", Layer.unwrap(Effect.sync(() => Layer.provide(PgStore.layer, Postgres.layer())))]
] as const

for (const [name, store] of stores) {
  const recorder = CallRecorder.layer.pipe(
    Layer.provideMerge(store),
    Layer.provide(Settings.layer({ maxResultBytes }))
  )
  // one store for all: each test looks at what it recorded itself
  layer(recorder, { timeout: 60_000 })(name, (it) => {
    describe("refused", () => {
      for (const [index, [name, bad, path, reason]] of refused.entries()) {
        it.effect(name, () =>
          Effect.gen(function*() {
            const { record, recordMany } = yield* CallRecorder
            const { status } = yield* ChunkStore
            const pending = Effect.map(status, (kinds) => kinds.reduce((sum, kind) => sum + kind.pending, 0))
            const before = yield* pending
            // what callers without types may do
            const untyped = bad as ServiceCall.ServiceCall

            const error = yield* Effect.flip(record(untyped))
            if (error._tag !== "CallRefused") throw error
            // long ones are cut in the middle
            expect(error.path.length > 150 ? error.path.slice(0, path.length) : error.path).toBe(path)
            expect(error.reason).toMatch(reason)
            expect(error.message.length).toBeLessThan(500)
            expect(error.message).toContain(path)
            expect(yield* pending).toBe(before)

            // the good ones beside it are recorded
            const results = yield* recordMany([call(`good-${index}`), untyped, call(`better-${index}`)])
            expect(results.map((result) => Result.isSuccess(result) ? result.success : result.failure._tag)).toEqual([
              "recorded",
              "CallRefused",
              "recorded"
            ])
            expect(yield* pending).toBe(before + 2)
          }))
      }
    })

    describe("recorded without its trace, which the log says once", () => {
      for (const [index, [name, trace]] of noTraces.entries()) {
        it.effect(name, () =>
          Effect.gen(function*() {
            const lines: Array<string> = []
            const heard = Logger.layer([Logger.map(Logger.formatLogFmt, (line) => void lines.push(line))])
            const { recordMany } = yield* CallRecorder
            const store = yield* ChunkStore
            const traced = ["1", "2"].map((which) => ({ ...call(`untraced-${index}-${which}`), trace }))
            // what callers without types may do
            const results = yield* Effect.provide(recordMany(traced as ReadonlyArray<ServiceCall.ServiceCall>), heard)
            expect(results.map((result) => Result.isSuccess(result) ? result.success : result.failure.message)).toEqual(
              [
                "recorded",
                "recorded"
              ]
            )
            expect(Option.getOrThrow(yield* store.call(`untraced-${index}-1`)).trace).toBe(null)
            expect(lines).toEqual([expect.stringMatching(
              new RegExp(`level=WARN .*without their trace.* sluice.call_id=untraced-${index}-1 sluice.calls=2$`)
            )])
          }))
      }
    })

    describe("recorded", () => {
      for (const [index, [name, good]] of fine.entries()) {
        it.effect(name, () =>
          Effect.gen(function*() {
            const { record } = yield* CallRecorder
            const store = yield* ChunkStore
            const one = good.callId === "a" ? { ...good, callId: `fine-${index}` } : good
            expect(yield* record(one)).toBe("recorded")
            expect(yield* record(one)).toBe("unchanged")
            const view = Option.getOrThrow(yield* store.call(one.callId))
            expect(view.outputs).toEqual(JSON.parse(JSON.stringify(one.outputs)))
            const { chunks: [chunk] } = yield* store.claim({
              worker: "test",
              limit: 1,
              maxBytes: 1e9,
              lease: Duration.minutes(1),
              callId: one.callId
            })
            expect(chunk?.key).toEqual({
              callId: one.callId,
              schemaIdentity: one.outputs[0]!.schema,
              part: one.outputs[0]!.part ?? ""
            })
            expect(chunk?.data).toEqual(JSON.parse(JSON.stringify(one.outputs[0]!.data)))
          }))
      }
    })
  })
}
