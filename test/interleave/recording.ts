/**
 * What brings calls in: programs that sessions run beside each other. `e` and `g` are of the key of the place, `f` has none;
 * `i` is there from the beginning, and its answer did not fit.
 */
import { ChunkStore } from "effect-sluice"
import type { Recording } from "effect-sluice/ChunkStore"
import * as DomainObject from "effect-sluice/DomainObject"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { call, keyOf } from "../contract/operators/dialogues.ts"
import { declaration, lease, persist, untilDone } from "./draining.ts"
import type { Program } from "./session.ts"

const knee = (id: string) => call(id, { orderingKey: "knee", context: { patientId: "Miller" } })

const calls: Readonly<Record<string, Recording>> = {
  e: knee("e"),
  f: call("f", { context: { patientId: "Miller" } }),
  g: knee("g"),
  i: knee("i")
}

const used = {
  schemas: "patient-reply",
  provider: "openai",
  model: "gpt-5-mini",
  calls: 1,
  failed: 0,
  invalid: 0,
  attempts: 1,
  inputTokens: 10,
  outputTokens: 5,
  cachedInputTokens: 0,
  reasoningTokens: 0,
  micros: 3,
  currency: "USD"
}

const attempted = Effect.map(DateTime.now, (at) => ({
  usage: [used],
  attempts: [{ outcome: "succeeded" as const, text: "Ouch.", length: 5, facts: {}, error: null, at }]
}))

/** Records calls in one commit. */
export const record = (...ids: ReadonlyArray<string>): Program =>
  ChunkStore.ChunkStore.use((store) => store.record(ids.map((id) => calls[id]!)))

/** Records calls one by one at the same time: those that come while the first is under way are one group. */
export const recordGrouped = (...ids: ReadonlyArray<string>): Program =>
  Effect.forEach(ids, (id) => record(id), { concurrency: "unbounded" })

/** Runs a call's service. It ends with its answer, with one that does not fit, or is given up. */
export const run = (id: string, end: "answered" | "invalid" | "given up"): Program =>
  Effect.gen(function*() {
    const store = yield* ChunkStore.ChunkStore
    const begun = yield* store.begin(calls[id]!, lease)
    if (begun._tag !== "Begun") return
    yield* store.renewRun(id, begun.token, lease)
    const added = yield* attempted
    if (end === "answered") yield* store.record([{ ...calls[id]!, ...added }])
    else if (end === "given up") yield* store.abandon(id, begun.token, undefined)
    else yield* store.abandon(id, begun.token, { status: "invalid", error: "no", ...added })
  })

/** Decodes an answer again that did not fit. */
export const decode = (id: string): Program => ChunkStore.ChunkStore.use((store) => store.recordDecoded(calls[id]!))

/** A chunk as much as a store looks at when it persists it. */
const chunkOf = (id: string, seq: bigint) => ({
  seq,
  key: keyOf(id),
  namespace: "chatlab",
  schemaVersion: 1,
  orderingKey: calls[id]?.orderingKey
})

/** Records a call that has no key, and persists it in the same commit. Whoever was not first compares. */
export const recordNow = (id: string): Program =>
  Effect.gen(function*() {
    const store = yield* ChunkStore.ChunkStore
    const sql = yield* SqlClient.SqlClient
    if (yield* store.isNested) return yield* record(id)
    const hold = { token: crypto.randomUUID(), worker: "w", lease }
    // a claimed chunk is more, which no store looks at here
    const chunk = chunkOf(id, -1n) as Parameters<typeof persist>[0]["chunks"][number]
    const handlers = Effect.as(sql`insert into note (call_id, written_by) values (${id}, 'now')`, [
      { chunk, handler: "h", handlerVersion: 1, objects: [DomainObject.make("chatlab.Note", id)] }
    ])
    const recorded = () => undefined
    const atEnd = Effect.succeed({ call: calls[id]!, hold, recorded })
    yield* store.persist(hold.token, () => handlers, undefined, { call: calls[id]!, notNew: recorded, atEnd }).pipe(
      Effect.catchTag("LeaseLost", () => record(id)),
      Effect.tapError(() => untilDone(record(id)))
    )
  })

/** Records a call that has no key, and persists it by one statement. */
export const recordInside = (id: string): Program =>
  Effect.gen(function*() {
    const store = yield* ChunkStore.ChunkStore
    const request = { declaration, handler: "h", handlerVersion: 1, lockTimeout: lease, timeout: lease }
    const objects = yield* Effect.tapError(store.recordInside(calls[id]!, request), () => untilDone(record(id)))
    if (objects === undefined) yield* record(id)
  })

/** Records a call of the key, held if nothing outstanding has it, and persists it at once. */
export const recordHeld = (id: string): Program =>
  Effect.gen(function*() {
    const store = yield* ChunkStore.ChunkStore
    const hold = { token: crypto.randomUUID(), worker: "w", lease }
    const seqs = yield* Effect.tapError(store.recordHeld(calls[id]!, hold), () => untilDone(store.giveUp(hold.token)))
    if (seqs === undefined) return yield* record(id)
    const chunks = seqs.map((seq) => chunkOf(id, seq)) as unknown as Parameters<typeof persist>[0]["chunks"]
    yield* persist({ token: hold.token, chunks })
  })
