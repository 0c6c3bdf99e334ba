/**
 * What a drain does with its chunks, also when the store fails: programs that sessions run beside each other.
 */
import { ChunkStore, Output, TableHandler } from "effect-sluice"
import type { Claim, ClaimedChunk, ClaimRequest, Settlement } from "effect-sluice/ChunkStore"
import * as DomainObject from "effect-sluice/DomainObject"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { keyOf, reply } from "../contract/operators/dialogues.ts"
import { fingerprint, type Held } from "./place.ts"
import type { Env, Program } from "./session.ts"

/** How long everything is leased. */
export const lease = Duration.minutes(10)

/** Ends chunks of a token. */
export const settle = (
  token: string,
  chunks: ReadonlyArray<ClaimedChunk>,
  ending: (chunk: ClaimedChunk) => Settlement
) => ChunkStore.ChunkStore.use((store) => store.settle(token, chunks.map(ending)))

const none: ReadonlyArray<ClaimedChunk> = []

const failure = { handler: "h", kind: "failed", message: "no" } as const
export const release = (chunk: ClaimedChunk): Settlement => ({ _tag: "Release", chunk })
export const bury = (chunk: ClaimedChunk): Settlement => ({
  _tag: "Bury",
  chunk,
  reason: "exhausted",
  charge: true,
  failure
})
export const retry = (chunk: ClaimedChunk): Settlement => ({ _tag: "Retry", chunk, delay: Duration.zero, failure })
export const park = (chunk: ClaimedChunk): Settlement => ({ _tag: "Park", chunk, reason: "no-handler" })
const already = (chunk: ClaimedChunk): Settlement => ({ _tag: "Already", chunk })

/** An outage, a conflict: it is tried again until it is done. */
export const untilDone = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, { times: 5, schedule: Schedule.spaced("1 millis") })

/** Persists, by handlers that write a note each; what is in the ledger, lost, or not to be had is settled accordingly. */
export const persist = ({ chunks: claimed, token }: Held): Program =>
  claimed.length === 0 ? Effect.void : Effect.gen(function*() {
    const chunks = [...claimed].sort((a, b) => (a.seq < b.seq ? -1 : 1))
    const store = yield* ChunkStore.ChunkStore
    const sql = yield* SqlClient.SqlClient
    const giveBack = untilDone(settle(token, chunks, release))
    const handlers = Effect.gen(function*() {
      yield* sql`
        insert into note (call_id, written_by)
        select call_id, 'drain' from unnest(${chunks.map((chunk) => chunk.key.callId)}::text[]) call_id`
      return chunks.map((chunk) => ({
        chunk,
        handler: "h",
        handlerVersion: 1,
        objects: [DomainObject.make("chatlab.Note", chunk.key.callId)]
      }))
    })
    const sortOut = Effect.gen(function*() {
      const known = new Set((yield* store.ledger(chunks.map((chunk) => chunk.key))).map(({ key }) => key.callId))
      yield* settle(token, chunks.filter((chunk) => known.has(chunk.key.callId)), already)
      yield* settle(token, chunks.filter((chunk) => !known.has(chunk.key.callId)), release)
    })
    yield* store.persist(token, () => handlers).pipe(
      Effect.catchTags({
        AlreadyPersisted: () => untilDone(sortOut),
        LeaseLost: () => giveBack,
        ChunksLocked: () => giveBack,
        TransactionSpoiled: (error) => Effect.andThen(giveBack, Effect.fail(error)),
        ChunkStoreError: (error) => Effect.andThen(giveBack, Effect.fail(error))
      })
    )
  })

/** Claims, and does with what it got as `carry` says. When it does not hear what it got, it gives that back. */
export const claiming = (carry: (claim: Claim) => Program, request: Partial<ClaimRequest> = {}): Program =>
  Effect.gen(function*() {
    const store = yield* ChunkStore.ChunkStore
    const token = crypto.randomUUID()
    const claim = yield* store.claim({ token, worker: "w", limit: 100, maxBytes: 1e9, lease, ...request }).pipe(
      Effect.tapError(() => untilDone(store.giveUp(token)))
    )
    yield* carry(claim)
  })

/** A declared handler, which writes a note. */
export const { declaration } = TableHandler.make(Output.make(reply, { schema: Schema.Int }), {
  table: "note",
  object: "chatlab.Note",
  id: "call_id",
  columns: ({ call }) => ({ call_id: call.callId, written_by: "drain" })
})

/** Persists chunks without a key inside the server, so many at most. */
const insideOf = (limit: number): Program =>
  ChunkStore.ChunkStore.use((store) =>
    store.persistInside({
      kind: { namespace: "chatlab", schemaIdentity: reply, version: 1, fingerprint },
      notIn: [],
      declaration,
      handler: "h",
      handlerVersion: 1,
      timeout: Duration.minutes(1),
      limit,
      maxBytes: 1e9
    })
  )
/** By the statement for any number. */
export const persistInside = insideOf(100)
/** By the statement for one. */
export const persistOneInside = insideOf(1)

/** Ends a claim's first chunk in one way, and gives back the others. */
export const first = (ending: (chunk: ClaimedChunk) => Settlement) => ({ chunks, token }: Claim): Program =>
  Effect.gen(function*() {
    yield* untilDone(settle(token, chunks.slice(0, 1), ending))
    yield* untilDone(settle(token, chunks.slice(1), release))
  })

/** Drains all that is due, for the end of a schedule. Says whether there was something. */
export const drain: Effect.Effect<boolean, unknown, Env> = Effect.gen(function*() {
  let found = none
  yield* claiming((claim) => {
    found = claim.chunks
    return persist(claim)
  })
  return found.length > 0
})

/** A worker's beat. */
export const beat: Program = ChunkStore.ChunkStore.use((store) =>
  store.beat("beater", [{ namespace: "chatlab", schemaIdentity: reply }])
)

/** Persists a call's chunk outside the drain. */
export const once = (id: string): Program =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const store = yield* ChunkStore.ChunkStore
    yield* store.once(
      { key: keyOf(id), namespace: "chatlab", handler: "by hand" },
      Effect.as(sql`insert into note (call_id, written_by) values (${id}, 'hand')`, [
        DomainObject.make("chatlab.Note", id)
      ])
    )
  })
