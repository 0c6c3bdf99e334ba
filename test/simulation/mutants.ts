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
  isSilent: Effect.succeed(false),
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
  "a claim ignores leases": (store, db) => ({
    ...store,
    claim: (request) =>
      Effect.andThen(changeAll(db, (row) => ({ ...row, leaseUntil: undefined })), store.claim(request))
  }),
  "a settlement does not check the token of its claim": (store, db) => ({
    ...store,
    settle: (token, settlements) => Effect.andThen(steal(db, token, settlements), store.settle(token, settlements))
  }),
  "handlers' rows are committed although the lease was lost": (store, db) => ({
    ...store,
    persist: (token, work, ...rest) =>
      Effect.catchIf(store.persist(token, work, ...rest), (error) => error instanceof LeaseLost, () => alone(db, work))
  }),
  "the ledger is written after the commit of the handlers' rows": (store, db) => ({
    ...store,
    persist: (token, work, ...rest) =>
      Effect.flatMap(
        alone(db, work),
        (persisted) => Effect.delay(store.persist(token, () => Effect.succeed(persisted), ...rest), 50)
      )
  }),
  "a retry charges every chunk of its claim": (store, db) => ({
    ...store,
    settle: (token, settlements) =>
      Effect.tap(store.settle(token, settlements), () =>
        settlements.some((one) => one._tag === "Retry")
          ? changeAll(db, (row) => row.leaseToken === token ? { ...row, attempts: row.attempts + 1 } : row)
          : Effect.void)
  }),
  "a chunk that is given back is charged an attempt": settling((one) =>
    one._tag === "Release"
      ? { _tag: "Retry", chunk: one.chunk, delay: 0 as never, failure: { handler: "", kind: "failed", message: "" } }
      : one
  ),
  "a beat unparks no chunk that its worker serves": (store) => ({
    ...store,
    beat: (worker) => store.beat(worker, [])
  }),
  "a claim ignores ordering keys": (store, db) => ({
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
  "waiting chunks are not released when the chunk before them is persisted": (store, db) => {
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
  "a dead letter does not block its ordering key": (store, db) => ({
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
  "crashes count as attempts": (store) => ({
    ...store,
    claim: (request) =>
      Effect.map(store.claim(request), (claim) => ({
        ...claim,
        chunks: claim.chunks.map((chunk) => ({ ...chunk, attempts: chunk.attempts + chunk.crashes }))
      }))
  }),
  "a claim resets the attempts of chunks": (store, db) => ({
    ...store,
    claim: (request) => Effect.andThen(changeAll(db, (row) => ({ ...row, attempts: 0 })), store.claim(request))
  }),
  "a buried chunk leaves no dead letter": settling((one) =>
    one._tag === "Bury" ? { _tag: "Already", chunk: one.chunk } : one
  ),
  "an output that does not decode is retried": settling((one) =>
    one._tag === "Bury" && one.reason === "undecodable"
      ? { _tag: "Retry", chunk: one.chunk, delay: 1000 as never, failure: one.failure }
      : one
  ),
  "transient errors of the database count as failures of the handler": (store) => ({
    ...store,
    isTransient: () => false
  }),
  "errors of a read-only server count as failures of the handler": (store) => ({
    ...store,
    isTransient: (error) => !(error instanceof ChunkStoreError && error.code === "25006") && store.isTransient(error)
  }),
  "persist succeeds although the lease was lost": (store, db) => ({
    ...store,
    persist: (token, work, ...rest) =>
      Effect.catchIf(
        store.persist(token, work, ...rest),
        (error) => error instanceof LeaseLost,
        () => Effect.asVoid(alone(db, work))
      )
  }),
  "once persists a chunk again that is in the ledger": (store, db) => ({
    ...store,
    once: (entry, work) =>
      Effect.andThen(db.use((access) => access.delete(ledger, chunkKey(entry.key))), store.once(entry, work))
  }),
  "a call that has succeeded is run again": (store) => ({
    ...store,
    begin: (call, lease) =>
      Effect.map(
        store.begin(call, lease),
        (begun) => begun._tag === "Succeeded" ? { _tag: "Begun", token: "another", takenOver: false } : begun
      )
  }),
  "the lease of a run that died never ends": (store, db) => ({
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
  "the drain persists a chunk again that is in the ledger": (store, db) => ({
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
  "the log moves the place of a subscription when events are taken": (log) => ({
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
  "a place of the former cluster is stored after a move": (log, db) => ({
    ...log,
    advance: (name, token, progress, lease) =>
      Effect.catchTag(log.advance(name, token, progress, lease), "LeaseLost", () =>
        db.use((access) => {
          const row = access.get(subscriptions, name)
          if (row !== undefined) access.set(subscriptions, name, { ...row, place: Number(progress.place.seq) })
        }))
  }),
  "the log returns events in reverse order": (log) => ({
    ...log,
    take: (name, options) =>
      Effect.map(log.take(name, options), Option.map((taken) => ({ ...taken, entries: taken.entries.toReversed() })))
  }),
  "an event whose handler fails is skipped": (log) => {
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
