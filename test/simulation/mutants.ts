/**
 * Bugs, planted one at a time between the drain and the store. The simulation must find each of them: one that it does
 * not find is a gap in it.
 */
import {
  AlreadyPersisted,
  ChunkStoreError,
  LeaseLost,
  type Persisted,
  type Settlement,
  type Transaction
} from "effect-sluice/ChunkStore"
import type { Place } from "effect-sluice/EventLog"
import { TransactionConflict } from "effect-sluice/store/MemoryDatabase"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import {
  calls,
  chunkKey,
  dead,
  ledger,
  queue,
  type QueueRow,
  seqKey,
  subscriptions
} from "../../src/store/memory/rows.ts"
import type { LogMutant, Mutant } from "./simulate.ts"

const changeAll = (db: Parameters<Mutant>[1], change: (row: QueueRow) => QueueRow) =>
  db.use((access) => {
    for (const row of access.values(queue)) access.set(queue, seqKey(row.seq), change(row))
  })

/** A transaction in which nothing is observed. */
const unwatched: Transaction = {
  watch: () => ({ sent: true, refusal: undefined, of: (run) => run, end: () => undefined }),
  isSound: Effect.succeed(true),
  insert: () => Effect.die("the mutants write by handlers that are programs"),
  afterCommit: () => Effect.void,
  abandon: Effect.void,
  longest: Duration.infinity
}

/**
 * The handlers' writes without ledger and settlement. A conflict becomes a defect; the cast takes it out of the errors,
 * which the compiler cannot do with errors it does not know.
 */
const alone = <E, R>(
  db: Parameters<Mutant>[1],
  work: (transaction: Transaction) => Effect.Effect<ReadonlyArray<Persisted>, E, R>
): Effect.Effect<ReadonlyArray<Persisted>, E, R> =>
  Effect.catchIf(
    db.transaction(work(unwatched)),
    (error): error is TransactionConflict => error instanceof TransactionConflict,
    Effect.die
  ) as Effect.Effect<ReadonlyArray<Persisted>, E, R>

/** Gives chunks to a token, whoever has them and for as long as it likes: the fence is down. */
const steal = (db: Parameters<Mutant>[1], token: string, settled: ReadonlyArray<{ readonly chunk: { seq: bigint } }>) =>
  db.use((access) => {
    for (const { chunk } of settled) {
      const row = access.get(queue, seqKey(chunk.seq))
      if (row === undefined) continue
      access.set(queue, seqKey(chunk.seq), { ...row, leaseToken: token, leaseUntil: Number.MAX_SAFE_INTEGER })
    }
  })

const settling = (change: (settlement: Settlement) => Settlement): Mutant => (store) => ({
  ...store,
  settle: (token, settlements) =>
    Effect.map(
      store.settle(token, settlements.map(change)),
      // what was asked for is what is answered
      (settled) =>
        settled.map((done) => ({
          ...done,
          settlement: settlements.find((one) => one.chunk === done.settlement.chunk) ?? done.settlement
        }))
    )
})

/** The bugs, by what is wrong. */
export const mutants: Readonly<Record<string, Mutant>> = {
  "a lease is not looked at": (store, db) => ({
    ...store,
    claim: (request) =>
      Effect.andThen(changeAll(db, (row) => ({ ...row, leaseUntil: undefined })), store.claim(request))
  }),
  "a settlement is not fenced": (store, db) => ({
    ...store,
    settle: (token, settlements) => Effect.andThen(steal(db, token, settlements), store.settle(token, settlements))
  }),
  "a lost lease does not roll back": (store, db) => ({
    ...store,
    persist: (token, work, ...rest) =>
      Effect.catchIf(store.persist(token, work, ...rest), (error) => error instanceof LeaseLost, () => alone(db, work))
  }),
  "the ledger is written after the commit": (store, db) => ({
    ...store,
    persist: (token, work, ...rest) =>
      Effect.flatMap(
        alone(db, work),
        (persisted) => Effect.delay(store.persist(token, () => Effect.succeed(persisted), ...rest), 50)
      )
  }),
  "batch-mates are charged": (store, db) => ({
    ...store,
    settle: (token, settlements) =>
      Effect.tap(store.settle(token, settlements), () =>
        settlements.some((one) => one._tag === "Retry")
          ? changeAll(db, (row) => row.leaseToken === token ? { ...row, attempts: row.attempts + 1 } : row)
          : Effect.void)
  }),
  "giving back costs an attempt": settling((one) =>
    one._tag === "Release"
      ? { _tag: "Retry", chunk: one.chunk, delay: 0 as never, failure: { handler: "", kind: "failed", message: "" } }
      : one
  ),
  "the parked are forgotten": (store) => ({
    ...store,
    beat: (worker) => store.beat(worker, [])
  }),
  "order is ignored": (store, db) => ({
    ...store,
    claim: (request) =>
      Effect.andThen(
        changeAll(
          db,
          (row) => ({ ...row, orderingKey: undefined, state: row.state === "waiting" ? "ready" : row.state })
        ),
        store.claim(request)
      )
  }),
  "the waiting are not woken": (store, db) => {
    const stillWaiting = <A, E, R>(verb: Effect.Effect<A, E, R>) =>
      Effect.gen(function*() {
        const waiting = yield* db.use((access) =>
          access.values(queue).filter((row) => row.state === "waiting").map((row) => row.seq)
        )
        const answer = yield* verb
        yield* changeAll(db, (row) => waiting.includes(row.seq) ? { ...row, state: "waiting" } : row)
        return answer
      })
    return {
      ...store,
      persist: (token, work, ...rest) => stillWaiting(store.persist(token, work, ...rest)),
      // a beat releases whom nobody has woken
      beat: (worker, serves) => stillWaiting(store.beat(worker, serves))
    }
  },
  "a dead letter does not hold its key": (store, db) => ({
    ...store,
    settle: (token, settlements) =>
      Effect.tap(store.settle(token, settlements), () =>
        db.use((access) => {
          for (const row of access.values(dead)) access.set(dead, chunkKey(row.key), { ...row, orderingKey: undefined })
        }))
  }),
  "crashes are not counted": (store, db) => ({
    ...store,
    claim: (request) =>
      Effect.andThen(changeAll(db, (row) => ({ ...row, crashes: 0, loneCrashes: 0 })), store.claim(request)).pipe(
        Effect.map((claim) => ({
          ...claim,
          chunks: claim.chunks.map((chunk) => ({ ...chunk, crashes: 0, loneCrashes: 0 }))
        }))
      )
  }),
  "crashes are attempts": (store) => ({
    ...store,
    claim: (request) =>
      Effect.map(store.claim(request), (claim) => ({
        ...claim,
        chunks: claim.chunks.map((chunk) => ({ ...chunk, attempts: chunk.attempts + chunk.crashes }))
      }))
  }),
  "attempts are forgotten": (store, db) => ({
    ...store,
    claim: (request) => Effect.andThen(changeAll(db, (row) => ({ ...row, attempts: 0 })), store.claim(request))
  }),
  "the buried are lost": settling((one) => one._tag === "Bury" ? { _tag: "Already", chunk: one.chunk } : one),
  "what does not decode is tried again": settling((one) =>
    one._tag === "Bury" && one.reason === "undecodable"
      ? { _tag: "Retry", chunk: one.chunk, delay: 1000 as never, failure: one.failure }
      : one
  ),
  "a passing error is the handler's fault": (store) => ({ ...store, isTransient: () => false }),
  "a server that is read-only is the handler's fault": (store) => ({
    ...store,
    isTransient: (error) => !(error instanceof ChunkStoreError && error.code === "25006") && store.isTransient(error)
  }),
  "a lost lease goes unnoticed": (store, db) => ({
    ...store,
    persist: (token, work, ...rest) =>
      Effect.catchIf(
        store.persist(token, work, ...rest),
        (error) => error instanceof LeaseLost,
        () => Effect.asVoid(alone(db, work))
      )
  }),
  "who persists beside the drain does not ask the ledger": (store, db) => ({
    ...store,
    once: (entry, work) =>
      Effect.andThen(db.use((access) => access.delete(ledger, chunkKey(entry.key))), store.once(entry, work))
  }),
  "an answer is paid for again": (store) => ({
    ...store,
    begin: (call, lease) =>
      Effect.map(
        store.begin(call, lease),
        (begun) => begun._tag === "Succeeded" ? { _tag: "Begun", token: "another", takenOver: false } : begun
      )
  }),
  "a run that died is never taken over": (store, db) => ({
    ...store,
    begin: (call, lease) =>
      Effect.andThen(
        db.use((access) => {
          const row = access.get(calls, call.callId)
          if (row?.runUntil !== undefined) access.set(calls, call.callId, { ...row, runUntil: 1e12 })
        }),
        store.begin(call, lease)
      )
  }),
  "what was persisted before is done again": (store, db) => ({
    ...store,
    persist: (token, work, ...rest) =>
      Effect.catchIf(
        store.persist(token, work, ...rest),
        (error) => error instanceof AlreadyPersisted,
        () => Effect.asVoid(alone(db, work))
      )
  })
}

/** Bugs of the log that durable subscribers read. */
export const logMutants: Readonly<Record<string, LogMutant>> = {
  "a subscription moves on before its events are handled": (log) => ({
    ...log,
    take: (name, options) =>
      Effect.tap(log.take(name, options), (taken) =>
        Option.isNone(taken)
          ? Effect.void
          : Effect.ignore(log.advance(
            name,
            taken.value.token,
            { place: taken.value.entries.at(-1)!.place, suspects: 0 },
            options.lease
          )))
  }),
  "a place of another cluster is written": (log, db) => ({
    ...log,
    advance: (name, token, progress, lease) =>
      Effect.catchTag(log.advance(name, token, progress, lease), "LeaseLost", () =>
        db.use((access) => {
          const row = access.get(subscriptions, name)
          if (row !== undefined) access.set(subscriptions, name, { ...row, place: Number(progress.place.seq) })
        }))
  }),
  "events come in another order": (log) => ({
    ...log,
    take: (name, options) =>
      Effect.map(log.take(name, options), Option.map((taken) => ({ ...taken, entries: taken.entries.toReversed() })))
  }),
  "an event whose handler fails is passed over": (log) => {
    const taken = new Map<string, Place>()
    return {
      ...log,
      take: (name, options) =>
        Effect.tap(log.take(name, options), (found) =>
          Effect.sync(() => {
            if (Option.isSome(found)) taken.set(found.value.token, found.value.entries[0]!.place)
          })),
      release: (name, token, release) =>
        Effect.andThen(
          release.failure === undefined
            ? Effect.void
            : Effect.ignore(log.advance(name, token, { place: taken.get(token)!, suspects: 0 }, Duration.seconds(3))),
          log.release(name, token, release)
        )
    }
  }
}
