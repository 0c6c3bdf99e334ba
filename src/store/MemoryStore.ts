/**
 * The store in memory, for unit tests of an application and for programs whose chunks need not outlive the process. It
 * obeys all laws of the port. Time comes from `Clock`, so `TestClock` drives leases and retries.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import * as Semaphore from "effect/Semaphore"
import {
  ChunkStore,
  ChunkStoreError,
  type ClaimedChunk,
  LeaseLost,
  type Persisted,
  type ToRecord,
  type Transaction,
  type Unrecorded
} from "../ChunkStore.ts"
import { DeadLetters } from "../DeadLetters.ts"
import { Erasure } from "../Erasure.ts"
import { EventLog } from "../EventLog.ts"
import { Inspector } from "../Inspector.ts"
import { outputGone } from "../internal/callJson.ts"
import { Pauses } from "../Pauses.ts"
import { Retention } from "../Retention.ts"
import type { ChunkKey, ServiceCall } from "../ServiceCall.ts"
import * as Settings from "../Settings.ts"
import { freesKey } from "../Settlement.ts"
import { makeLocal, type Topic, WakeUp } from "../WakeUp.ts"
import { beat, kindsPaused } from "./memory/beat.ts"
import { close } from "./memory/callEnd.ts"
import { claim } from "./memory/claim.ts"
import * as deadLetters from "./memory/deadLetters.ts"
import * as erasure from "./memory/erasure.ts"
import * as eventLog from "./memory/eventLog.ts"
import * as inserting from "./memory/insert.ts"
import * as inspector from "./memory/inspector.ts"
import { outsideOf } from "./memory/outside.ts"
import * as pauses from "./memory/pauses.ts"
import * as read from "./memory/read.ts"
import * as recording from "./memory/record.ts"
import { numbered, recordHeld, unlessKnown } from "./memory/recordHeld.ts"
import * as repairs from "./memory/repairs.ts"
import * as retention from "./memory/retention.ts"
import {
  type CallRow,
  calls,
  chunkKey,
  copy,
  dead,
  ledger,
  queue,
  type QueueRow,
  seqKey,
  type Use,
  workers
} from "./memory/rows.ts"
import { giveUp, settle, settlePersisted } from "./memory/settle.ts"
import * as waiting from "./memory/waiting.ts"
import { Run } from "./memory/watch.ts"
import * as MemoryDatabase from "./MemoryDatabase.ts"
import type { Stores } from "./Stores.ts"
import { named, Verb } from "./verbs.ts"

const isConflict = (error: unknown): error is MemoryDatabase.TransactionConflict =>
  error instanceof MemoryDatabase.TransactionConflict

/** A conflict is like a serialization failure: no chunk is charged, and the same work is retried. */
const asStoreError = <A, E, R>(effect: Effect.Effect<A, E | MemoryDatabase.TransactionConflict, R>) =>
  Effect.catchIf(
    effect,
    isConflict,
    (conflict) =>
      Effect.flatMap(Verb, (operation) =>
        Effect.fail(new ChunkStoreError({ operation, transient: true, reason: conflict.message, cause: conflict })))
  ) as Effect.Effect<A, Exclude<E, MemoryDatabase.TransactionConflict> | ChunkStoreError, R>

/** Searches the causes too: handlers wrap errors in their own. */
const isTransient = (error: unknown, depth = 0): boolean => {
  if (depth > 5 || !Predicate.isObject(error)) return false
  if (error instanceof ChunkStoreError) return error.transient
  if (isConflict(error)) return true
  return (Predicate.hasProperty(error, "cause") && isTransient(error.cause, depth + 1)) ||
    (Predicate.hasProperty(error, "reason") && isTransient(error.reason, depth + 1))
}

// the chunks of a call share large values, so each read copies them: a handler's change must not reach other chunks
const toChunk = (row: QueueRow, call: CallRow | undefined): ClaimedChunk => ({
  seq: BigInt(row.seq),
  key: row.key,
  namespace: row.namespace,
  schemaVersion: row.schemaVersion,
  orderingKey: row.orderingKey,
  attempts: row.attempts,
  crashes: row.crashes,
  loneCrashes: row.loneCrashes,
  recordedAt: read.utc(row.recordedAt),
  get payload() {
    const data = copy(call?.outputs?.[row.position]?.data)
    return data === undefined ? { withheld: outputGone } : { data }
  },
  call: {
    service: call?.service ?? "",
    correlationId: call?.correlationId ?? row.key.callId,
    get context() {
      return copy(call?.context ?? {})
    },
    get input() {
      return copy(call?.input ?? null)
    },
    get facts() {
      return copy(call?.facts ?? {})
    },
    finishedAt: read.utc(call?.finishedAt ?? row.recordedAt),
    trace: call?.trace,
    outputs: call?.outputs?.length ?? 0
  }
})

/**
 * Wakes the chunks that waited behind these, after the commit that removes these. A claim that runs before the commit still
 * sees them and sets their followers to waiting.
 */
const wakeAfterCommit =
  (db: MemoryDatabase.MemoryDatabase["Service"], use: Use) => (gone: waiting.Gone): Effect.Effect<void> =>
    gone.some(({ orderingKey }) => typeof orderingKey === "string")
      ? db.afterCommit(Effect.asVoid(use((access) => waiting.wakeFollowers(access, gone))))
      : Effect.void

const makeStore = (
  db: MemoryDatabase.MemoryDatabase["Service"],
  settings: Settings.Values,
  use: Use,
  newToken: Effect.Effect<string>,
  wakeUp: WakeUp["Service"]
): ChunkStore["Service"] => {
  // one caller at a time persists a chunk outside the drain; the second waits, like at a unique key
  const gates = new Map<string, Semaphore.Semaphore>()
  const transaction: Transaction = {
    watch: () => new Run(),
    isSound: Effect.succeed(true),
    insert: inserting.make(db),
    afterCommit: db.afterCommit,
    abandon: Effect.void,
    isSilent: Effect.succeed(false),
    longest: Duration.infinity
  }
  /** Sent after the caller's commit, when a woken worker can see the change. */
  const hintIf = (condition: boolean, topic: Topic) => condition ? db.afterCommit(wakeUp.hint(topic)) : Effect.void
  const wake = wakeAfterCommit(db, use)
  /** Ends those of these calls, or of all, that have no chunk left. */
  const closeCalls = (callIds?: ReadonlyArray<string>) =>
    // ids only have to grow
    Effect.flatMap(db.next("end"), (first) => use((access, now) => close(access, now, first * 1_000_000, callIds)))
      .pipe(
        Effect.flatMap((ended) => ended > 0 ? wakeUp.hint("events") : Effect.void)
      )
  const closeAfterCommit = (chunks: ReadonlyArray<{ readonly key: ChunkKey }>) =>
    chunks.length === 0 ? Effect.void : db.afterCommit(closeCalls(chunks.map(({ key }) => key.callId)))
  const numbersOf = ({ outputs }: ServiceCall) =>
    Effect.all({ seqs: Effect.forEach(outputs, () => db.next("chunk")), id: db.next("usage") })
  /** Settles what was persisted; of a call that is not recorded, records it first. */
  const settleEnd = Effect.fnUntraced(
    function*(token: string, persisted: ReadonlyArray<Persisted>, unrecorded: Unrecorded | undefined) {
      const numbers = unrecorded === undefined ? undefined : yield* numbersOf(unrecorded.call)
      const problem = yield* use((access, now) => {
        if (unrecorded !== undefined && numbers !== undefined) {
          const { call, hold, recorded } = unrecorded
          const seqs = recordHeld(access, call, hold, now, numbers, settings.deadBlocksKey)
          if (seqs === undefined) return new LeaseLost({ claimed: persisted.length, held: 0 })
          recorded(seqs)
          return settlePersisted(access, token, numbered(call, seqs, persisted), now)
        }
        return settlePersisted(access, token, persisted, now)
      })
      if (problem !== undefined) return yield* problem
      yield* wake(persisted.map((line) => line.chunk))
      yield* hintIf(persisted.some((line) => line.objects.length > 0), "events")
      yield* closeAfterCommit(persisted.map((line) => line.chunk))
    }
  )

  return ChunkStore.of({
    record: Effect.fnUntraced(function*(list) {
      const numbers = yield* Effect.forEach(list, numbersOf)
      const outcomes = yield* use((access, now) =>
        list.map((call, index) => recording.record(access, call, now, numbers[index]!))
      )
      yield* hintIf(outcomes.includes("recorded"), "chunks")
      return outcomes
    }),

    recordHeld: Effect.fnUntraced(function*(call, hold) {
      const numbers = yield* numbersOf(call)
      return yield* use((access, now) => recordHeld(access, call, hold, now, numbers, settings.deadBlocksKey))
    }),
    recordDecoded: Effect.fnUntraced(function*(call) {
      const numbers = yield* numbersOf(call)
      const isRecorded = yield* use((access, now) => recording.recordDecoded(access, call, now, numbers))
      yield* hintIf(isRecorded, "chunks")
      return isRecorded
    }),
    isNested: db.inTransaction,
    isNew: Effect.fnUntraced(function*(callId) {
      const nested = yield* db.inTransaction
      return yield* db.use((access) => ({
        isNew: !nested && access.get(calls, callId) === undefined,
        paused: kindsPaused(access)
      }))
    }),

    begin: Effect.fnUntraced(function*(call, lease) {
      if (yield* db.inTransaction) return { _tag: "InTransaction" } as const
      const token = yield* newToken
      const begun = yield* use((access, now) =>
        recording.begin(access, call, now, token, now + Duration.toMillis(lease))
      )
      if (begun === "conflict") return { _tag: "Conflict" } as const
      if (begun === "erased") return { _tag: "Erased" } as const
      if ("takenOver" in begun) return { _tag: "Begun", token, takenOver: begun.takenOver } as const
      return begun.status === "succeeded"
        ? { _tag: "Succeeded", call: recording.toCall(begun) } as const
        : { _tag: "Running", until: read.utc(begun.runUntil ?? begun.recordedAt) } as const
    }),
    renewRun: (callId, token, lease) =>
      use((access, now) => recording.renewRun(access, callId, token, now + Duration.toMillis(lease))),
    abandon: (callId, token, end) =>
      Effect.flatMap(
        db.next("usage"),
        (id) => use((access, now) => recording.abandon(access, callId, token, end, now, id))
      ),
    find: (callId) => db.use((access) => Option.fromUndefinedOr(recording.find(access, callId))),

    claim: Effect.fnUntraced(function*(request) {
      const token = request.token ?? (yield* newToken)
      const chunks = yield* use((access, now) =>
        claim(access, request, token, now, settings.deadBlocksKey)
          .map((row) => toChunk(row, access.get(calls, row.key.callId)))
      )
      // a caller that persists inline may not beat, and would not learn of pauses otherwise
      const paused = request.callId === undefined ? undefined : yield* use(kindsPaused)
      return { token, chunks, paused }
    }),

    // memory has no server that could do it: a declared handler runs on claimed chunks
    persistInside: () => Effect.undefined,
    recordInside: () => Effect.undefined,

    giveUp: (token) => use((access) => giveUp(access, token)),

    renew: Effect.fnUntraced(function*(token, chunks, lease, alone = false) {
      return yield* use((access, now) => {
        const leaseUntil = now + Duration.toMillis(lease)
        return chunks.filter((chunk) => {
          const row = access.get(queue, seqKey(chunk.seq))
          if (row?.leaseToken !== token) return false
          access.set(queue, seqKey(row.seq), { ...row, leaseUntil, leaseAlone: row.leaseAlone || alone })
          return true
        })
      })
    }),

    // a transaction in memory holds no locks, so an idle one delays no other
    persist: <E, R>(
      token: string,
      work: (transaction: Transaction) => Effect.Effect<ReadonlyArray<Persisted>, E, R>,
      _?: Duration.Duration,
      toRecord?: ToRecord
    ) =>
      (toRecord === undefined ? Effect.void : unlessKnown(use, token, toRecord)).pipe(
        Effect.andThen(() => work(transaction)),
        Effect.flatMap((persisted) =>
          persisted.length === 0
            ? Effect.void
            : Effect.flatMap(toRecord?.atEnd ?? Effect.undefined, (call) => settleEnd(token, persisted, call))
        ),
        db.transaction,
        asStoreError
      ),
    probe: Effect.void,
    isTransient,
    outsideOf: outsideOf(db),

    settle: (token, settlements) =>
      Effect.flatMap(db.next("failure"), (first) =>
        // ids only have to grow: a settlement uses as many as it has failures
        use((access, now) => {
          let id = first * 1_000_000
          return settle(access, token, settlements, now, () => id++)
        })).pipe(
          Effect.map((settled) =>
            settled.map((settlement) => ({ settlement, freesKey: freesKey(settlement, settings.deadBlocksKey) }))
          ),
          Effect.tap((settled) => wake(settled.filter((one) => one.freesKey).map((one) => one.settlement.chunk))),
          Effect.tap((settled) =>
            closeAfterCommit(
              settled.flatMap(({ settlement: { _tag, chunk } }) => _tag === "Bury" || _tag === "Already" ? [chunk] : [])
            )
          )
        ),

    once: (entry, work) =>
      Effect.suspend(() => {
        const key = chunkKey(entry.key)
        const gate = gates.get(key) ?? Semaphore.makeUnsafe(1)
        gates.set(key, gate)
        const find = db.use((access) => access.get(ledger, key))
        return Effect.gen(function*() {
          const before = yield* find
          if (before !== undefined) return { created: false, entry: read.toEntry(before) }
          const objects = yield* work
          const { gone, row } = yield* use((access, now) => {
            const outstanding = access.values(queue).find((one) => chunkKey(one.key) === key)
            const row = {
              ...entry,
              schemaVersion: (outstanding ?? access.get(dead, key))?.schemaVersion ?? 0,
              handlerVersion: 1,
              objects: objects.map(({ id, type }) => ({ id, type })),
              persistedAt: now
            }
            access.set(ledger, key, row)
            const letter = access.get(dead, key)
            if (outstanding !== undefined) access.delete(queue, seqKey(outstanding.seq))
            if (letter !== undefined) access.delete(dead, key)
            return { row, gone: [outstanding, letter].filter((one) => one !== undefined) }
          })
          yield* wake(gone)
          yield* hintIf(objects.length > 0, "events")
          yield* closeAfterCommit(gone)
          return { created: true, entry: read.toEntry(row) }
        }).pipe(db.transaction, gate.withPermits(1), asStoreError)
      }),

    afterCommit: db.afterCommit,
    beat: Effect.fnUntraced(function*(id, serves, inside = []) {
      const { released, told } = yield* use((access, now) => ({
        told: beat(access, { id, serves, inside }, now),
        released: waiting.release(access, settings.deadBlocksKey)
      }))
      yield* hintIf(released > 0, "chunks")
      yield* db.afterCommit(closeCalls())
      return told
    }),
    leave: (worker) => db.use((access) => access.delete(workers, worker)),
    releaseWaiting: use((access) => waiting.release(access, settings.deadBlocksKey)).pipe(
      Effect.tap((released) => hintIf(released > 0, "chunks"))
    ),

    ledger: (keys) =>
      db.use((access) => keys.flatMap((key) => access.get(ledger, chunkKey(key)) ?? []).map(read.toEntry))
  })
}

const make = Effect.gen(function*() {
  const db = yield* MemoryDatabase.MemoryDatabase
  const settings = yield* Settings.Settings
  const wakeUp = yield* makeLocal
  const use: Use = (step) => Effect.flatMap(Clock.currentTimeMillis, (now) => db.use((access) => step(access, now)))
  const newToken = Effect.map(
    Effect.all([db.next("token"), Random.nextIntBetween(0, 2 ** 32)]),
    ([number, random]) => `${number}-${random.toString(16)}`
  )
  const wake = wakeAfterCommit(db, use)
  const moved = db.afterCommit(wakeUp.hint("chunks"))
  const letters = deadLetters.make(use, wake, moved)
  return Context.make(ChunkStore, named("ChunkStore", makeStore(db, settings, use, newToken, wakeUp))).pipe(
    Context.add(DeadLetters, { ...letters, ...repairs.make(db, use, newToken, wake, moved) }),
    Context.add(Pauses, pauses.make(use, db.afterCommit(wakeUp.hint("pauses")))),
    Context.add(Retention, retention.make(use)),
    Context.add(Erasure, erasure.make(use, db.next("erasure"), wake, moved)),
    Context.add(EventLog, eventLog.make(use, newToken)),
    Context.add(Inspector, inspector.make(use, settings.deadBlocksKey)),
    Context.add(WakeUp, wakeUp)
  )
})

/** The store over a provided database, which lets an application's own tables share its transactions. */
export const layerStorage: Layer.Layer<Stores, never, MemoryDatabase.MemoryDatabase | Settings.Settings> = Layer
  .effectContext(make)

/** The store and its database, fresh each time the layer is built. */
export const layer: Layer.Layer<Stores | MemoryDatabase.MemoryDatabase, never, Settings.Settings> = layerStorage.pipe(
  Layer.provideMerge(MemoryDatabase.layer)
)
