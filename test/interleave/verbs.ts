/**
 * The verbs of the ports, as programs that sessions run beside each other. What claims does with its claim what a drain does,
 * also when the store fails.
 */
import { ChunkStore, DeadLetters, Erasure, EventLog, Output, Pauses, Retention, TableHandler } from "effect-sluice"
import type { Claim, ClaimedChunk, ClaimRequest, Settlement } from "effect-sluice/ChunkStore"
import * as DomainObject from "effect-sluice/DomainObject"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { call, keyOf, reply } from "../contract/operators/dialogues.ts"
import { fingerprint, type Held, names, type State, statesOf } from "./place.ts"
import type { Env, Program } from "./session.ts"

/** A verb, and what is to be known of it. */
export interface Verb {
  readonly program: (held: Held | undefined) => Program
  /** Whether there is something for it to do. */
  readonly fits?: (states: ReadonlyArray<State>) => boolean
  /** Whether it is the holder's of the claim that is there from the beginning: one at a time, but for renewals. */
  readonly holder?: "ends" | "renews"
  /** Whether applications may call it in a transaction of their own. */
  readonly joins?: boolean
}

const lease = Duration.minutes(10)
const none: ReadonlyArray<ClaimedChunk> = []

// ------------------------------------------------------------------------------------------------------- what a drain does

const settle = (token: string, chunks: ReadonlyArray<ClaimedChunk>, ending: (chunk: ClaimedChunk) => Settlement) =>
  ChunkStore.ChunkStore.use((store) => store.settle(token, chunks.map(ending)))

const failure = { handler: "h", kind: "failed", message: "no" } as const
const release = (chunk: ClaimedChunk): Settlement => ({ _tag: "Release", chunk })
const bury = (chunk: ClaimedChunk): Settlement => ({ _tag: "Bury", chunk, reason: "exhausted", charge: true, failure })
const retry = (chunk: ClaimedChunk): Settlement => ({ _tag: "Retry", chunk, delay: Duration.zero, failure })
const park = (chunk: ClaimedChunk): Settlement => ({ _tag: "Park", chunk, reason: "no-handler" })
const already = (chunk: ClaimedChunk): Settlement => ({ _tag: "Already", chunk })

/** An outage, a conflict: it is tried again until it is done. */
const untilDone = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, { times: 5, schedule: Schedule.spaced("1 millis") })

/** Persists, by handlers that write a note each; what is in the ledger, lost, or not to be had is settled accordingly. */
const persist = ({ chunks: claimed, token }: Held): Program =>
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
const claiming = (carry: (claim: Claim) => Program, request: Partial<ClaimRequest> = {}): Program =>
  Effect.gen(function*() {
    const store = yield* ChunkStore.ChunkStore
    const token = crypto.randomUUID()
    const claim = yield* store.claim({ token, worker: "w", limit: 100, maxBytes: 1e9, lease, ...request }).pipe(
      Effect.tapError(() => untilDone(store.giveUp(token)))
    )
    yield* carry(claim)
  })

const { declaration } = TableHandler.make(Output.make(reply, { schema: Schema.Int }), {
  table: "note",
  object: "chatlab.Note",
  id: "call_id",
  columns: ({ call }) => ({ call_id: call.callId, written_by: "drain" })
})

/** Persists what has no key inside the server. */
const persistInside: Program = ChunkStore.ChunkStore.use((store) =>
  store.persistInside({
    kind: { namespace: "chatlab", schemaIdentity: reply, version: 1, fingerprint },
    notIn: [],
    declaration,
    handler: "h",
    handlerVersion: 1,
    limit: 100,
    maxBytes: 1e9
  })
)

/** Ends a claim's first chunk in one way, and gives back the others. */
const first = (ending: (chunk: ClaimedChunk) => Settlement) => ({ chunks, token }: Claim): Program =>
  Effect.gen(function*() {
    yield* untilDone(settle(token, chunks.slice(0, 1), ending))
    yield* untilDone(settle(token, chunks.slice(1), release))
  })

const held = (end: (held: Held) => Program): Verb => ({
  program: (it) => it === undefined ? Effect.void : end(it),
  fits: (states) => states.some((state) => state === "leased" || state === "expired"),
  holder: "ends"
})

// ------------------------------------------------------------------------------------------------------- and what others do

const knee = (id: string) => call(id, { orderingKey: "knee" })
const isThere = (states: ReadonlyArray<State>) => (id: string): boolean => names.indexOf(id) < states.length
const isDead = (states: ReadonlyArray<State>): boolean => states.includes("dead")

const once = (id: string): Verb => ({
  program: () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const store = yield* ChunkStore.ChunkStore
      yield* store.once(
        { key: keyOf(id), namespace: "chatlab", handler: "by hand" },
        Effect.as(sql`insert into note (call_id, written_by) values (${id}, 'hand')`, [
          DomainObject.make("chatlab.Note", id)
        ])
      )
    }),
  fits: (states) => isThere(states)(id),
  joins: true
})

/** Takes what there is to be told, and moves on. */
const subscribe: Program = Effect.gen(function*() {
  const log = yield* EventLog.EventLog
  yield* log.open("audit", "beginning")
  const taken = yield* log.take("audit", { limit: 100, maxBytes: 1e9, lease, reader: "w" })
  if (Option.isNone(taken)) return
  const { entries, token } = taken.value
  const sql = yield* SqlClient.SqlClient
  yield* sql`insert into told (call_id) select * from unnest(${
    entries.flatMap(({ events }) => events.map(({ key }) => key.callId))
  }::text[])`
  yield* log.advance("audit", token, { place: entries.at(-1)!.place, suspects: 0 }, lease)
  yield* log.release("audit", token, { suspects: 0 })
})

const run = (id: string, ended: boolean): Program =>
  Effect.gen(function*() {
    const store = yield* ChunkStore.ChunkStore
    const begun = yield* store.begin(knee(id), lease)
    if (begun._tag !== "Begun") return
    yield* store.renewRun(id, begun.token, lease)
    yield* ended ? store.record([knee(id)]) : store.abandon(id, begun.token, undefined)
  })

const eraseCall = (callId: string): Program =>
  Erasure.Erasure.use((erasure) => erasure.erase(Erasure.Subject.Call({ callId }), { because: "no", by: "w" }))

/** Asks again for a rejected answer, and has one. */
const repair: Program = Effect.gen(function*() {
  const letters = yield* DeadLetters.DeadLetters
  const begun = yield* letters.beginRepair(keyOf("a"), { most: 1, lease })
  if (Option.isNone(begun)) return
  yield* letters.endRepair(keyOf("a"), begun.value.token, { output: { version: 1, data: { text: "mended" } } })
})

/** A worker's beat. */
export const beat: Program = ChunkStore.ChunkStore.use((store) =>
  store.beat("beater", [{ namespace: "chatlab", schemaIdentity: reply }])
)

/** All verbs, by name. */
export const verbs: Readonly<Record<string, Verb>> = {
  "claim, persist": { program: () => claiming(persist) },
  "claim one, persist": { program: () => claiming(persist, { limit: 1 }) },
  "persist inside": { program: () => persistInside },
  "claim, release": { program: () => claiming(({ chunks, token }) => untilDone(settle(token, chunks, release))) },
  "claim, retry": { program: () => claiming(first(retry)) },
  "claim, bury": { program: () => claiming(first(bury)) },
  "claim, park": { program: () => claiming(first(park)) },
  "persist b now": {
    program: () => claiming(persist, { callId: "b" }),
    fits: (states) => isThere(states)("b"),
    joins: true
  },
  "held: persist": held(persist),
  "held: release": held(({ chunks, token }) => settle(token, chunks, release)),
  "held: retry": held(({ chunks, token }) => settle(token, chunks, retry)),
  "held: bury": held(({ chunks, token }) => settle(token, chunks, bury)),
  "held: park": held(({ chunks, token }) => settle(token, chunks, park)),
  "held: give up": held(({ token }) => ChunkStore.ChunkStore.use((store) => store.giveUp(token))),
  "held: renew": {
    ...held(({ chunks, token }) => ChunkStore.ChunkStore.use((store) => store.renew(token, chunks, lease))),
    holder: "renews"
  },
  "once a": once("a"),
  "once b": once("b"),
  "record e": { program: () => ChunkStore.ChunkStore.use((store) => store.record([knee("e")])), joins: true },
  "run e": { program: () => run("e", true) },
  "run e, given up": { program: () => run("e", false) },
  "discard a": {
    program: () => DeadLetters.DeadLetters.use((letters) => letters.discard({ callId: "a" }, "no")),
    fits: (states) => states[0] === "dead",
    joins: true
  },
  "discard all": {
    program: () => DeadLetters.DeadLetters.use((letters) => letters.discard({}, "no")),
    fits: isDead,
    joins: true
  },
  "redrive a": {
    program: () => DeadLetters.DeadLetters.use((letters) => letters.redrive({ callId: "a" })),
    fits: (states) => states[0] === "dead",
    joins: true
  },
  "redrive all": {
    program: () => DeadLetters.DeadLetters.use((letters) => letters.redrive({})),
    fits: isDead,
    joins: true
  },
  "repair a": { program: () => repair, fits: (states) => states[0] === "dead" },
  "beat": { program: () => beat },
  "pause": {
    program: () => Pauses.Pauses.use((pauses) => pauses.pause({ namespace: "chatlab", schemaIdentity: "*" }, "no")),
    fits: (states) => states.includes("parked")
  },
  "prune": {
    program: () =>
      Retention.Retention.use((retention) => retention.prune({ payloads: Duration.zero, failures: Duration.zero }))
  },
  "erase a": { program: () => eraseCall("a"), joins: true },
  // which another session may be recording or running
  "erase e": { program: () => eraseCall("e"), joins: true },
  "erase all": {
    program: () =>
      Erasure.Erasure.use((erasure) =>
        erasure.erase(Erasure.Subject.Context({ key: "patientId", value: "Miller" }), { because: "no", by: "w" })
      )
  },
  "subscribe": { program: () => subscribe },
  // time passes for whoever is not in the middle of something
  "leases end": {
    program: () =>
      Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql`
        update sluice.chunk_queue set lease_until = now() - interval '1 second'
        where seq in (select seq from sluice.chunk_queue where lease_token is not null for update skip locked)`)
  }
}

/** The levels of isolation an application's transaction may have. */
export const levels = ["read committed", "repeatable read", "serializable"] as const
export type Level = typeof levels[number]

/** A verb in a transaction of the application's, that has looked at its tables before, and writes afterwards. */
export const inTransaction = (level: Level, program: Program): Program =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql.withTransaction(Effect.gen(function*() {
      yield* sql.unsafe(`set transaction isolation level ${level}`)
      yield* sql`select count(*) from visit`
      yield* program
      yield* sql`insert into visit default values`
    })))

/** One of these programs is what each session runs. */
export interface Part {
  readonly verb: string
  readonly level?: Level
}

/** How a part is called. */
export const printPart = ({ level, verb }: Part): string => level === undefined ? verb : `${verb} (${level})`

/** A part, from what it is called. */
export const parsePart = (text: string): Part => {
  const [, verb = text, level] = /^(.*) \((.*)\)$/.exec(text) ?? []
  return levels.some((one) => one === level) ? { verb, level: level as Level } : { verb }
}

/** The program of a part. */
export const programOf = ({ level, verb }: Part, it: Held | undefined): Program => {
  const found = verbs[verb]
  if (found === undefined) throw new Error(`no such verb: ${verb}. There are: ${Object.keys(verbs).join("; ")}`)
  const program = found.program(it)
  return level === undefined ? program : inTransaction(level, program)
}

/** Whether sessions with these parts can be side by side in a place. */
export const fit = (place: string, parts: ReadonlyArray<Part>): boolean => {
  const states = statesOf(place)
  const all = parts.map(({ verb }) => verbs[verb])
  return all.every((verb) => verb?.fits?.(states) ?? true) &&
    all.filter((verb) => verb?.holder === "ends").length < 2 &&
    parts.every(({ level }, index) => level === undefined || all[index]?.joins === true)
}

/** What drains all that is due, for the end of a schedule. Says whether there was something. */
export const drain: Effect.Effect<boolean, unknown, Env> = Effect.gen(function*() {
  let found = none
  yield* claiming((claim) => {
    found = claim.chunks
    return persist(claim)
  })
  return found.length > 0
})

/** What tells a subscriber of the rest. */
export const tell = subscribe
