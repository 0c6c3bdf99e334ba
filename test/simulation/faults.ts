/**
 * A store between the drain and the real one, which fails, waits, falls silent, is read-only for a while, loses answers and
 * lets its worker die or freeze, at every call of the port, as the dice fall.
 *
 * A connection that falls silent is one that a call of the port gives up after its time limit; by then the call may have
 * been done. In a handler nobody but its own time limit gives it up. Not expressed: a statement that the server carries out
 * when nobody waits for it any more, because here a call of the port is one step.
 */
import { ChunkStore, ChunkStoreError, type Transaction } from "effect-sluice/ChunkStore"
import type { DeadLetters } from "effect-sluice/DeadLetters"
import type { Erasure } from "effect-sluice/Erasure"
import type { EventLog } from "effect-sluice/EventLog"
import { Inspector } from "effect-sluice/Inspector"
import { TransactionConflict } from "effect-sluice/store/MemoryDatabase"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Semaphore from "effect/Semaphore"
import { CurrentSession, Session } from "./session.ts"

/** What befalls a simulation. */
export interface Weather {
  /** Of a hundred calls of the port, how many go wrong in some way. */
  percent: number
  /** How many more workers may die, freeze, stop or lose a claim. Few, so that no innocent is taken for a killer. */
  blows: number
  /** For how long the server will refuse whatever writes, as a standby does, from the next batch on. */
  readOnlyFor: number
  /** Until when it does. */
  readOnlyUntil: number
  /** Chunks that were handed out as if a worker had died with them. */
  readonly crashed: Set<string>
  /** What happened, by kind. */
  readonly happened: Map<string, number>
}

/** The weather of a new simulation. In a calm one nothing goes wrong. */
export const makeWeather = (isCalm: boolean): Weather => ({
  percent: isCalm ? 0 : 12,
  blows: isCalm ? 0 : 2,
  readOnlyFor: 0,
  readOnlyUntil: 0,
  crashed: new Set(),
  happened: new Map()
})

/** Nothing goes wrong from now on. */
export const calm = (weather: Weather): void => {
  Object.assign(weather, { percent: 0, blows: 0, readOnlyFor: 0, readOnlyUntil: 0 })
}

/** How much time a simulation may take until it is quiet. */
export const longestStory = Duration.minutes(5)

/** One life of a worker: from its start to its stop or death. */
export interface Life {
  /** Ends it: by a death, or because it is told to stop. */
  readonly end: Deferred.Deferred<void>
  dead: boolean
  frozenUntil: number
  /** Whether the last settlement failed: two in a row would look like a death. */
  spared: boolean
  /** How often in a row the database has failed a batch. More often would be the batch's own doing, and be charged. */
  strain: number
  /** The one connection that its handlers' transactions take turns with, in a process that runs several batches. */
  connection?: Semaphore.Semaphore
  /** Whether it knows of servers that only read. */
  metReadOnly: boolean
  /** The database as a handler meets it. */
  stumble: Effect.Effect<void, ChunkStoreError | TransactionConflict>
  /** What it has done to the transaction under way: its connection is lost, or it is to be rolled back. */
  spoiled: "lost" | "aborted" | undefined
}

/** A life that begins. */
export const newLife: Effect.Effect<Life> = Effect.map(
  Deferred.make<void>(),
  (end) => ({
    end,
    dead: false,
    frozenUntil: 0,
    spared: false,
    strain: 0,
    metReadOnly: false,
    stumble: Effect.void,
    spoiled: undefined
  })
)

/** Ends a life at once: nothing it still tries reaches the database. */
export const kill = (life: Life): Effect.Effect<void> =>
  Effect.suspend(() => {
    life.dead = true
    return stop(life)
  })

/** Tells a worker to stop. It may still give back what it holds. */
const stop = (life: Life): Effect.Effect<void> => Effect.asVoid(Deferred.succeed(life.end, undefined))

/** Fewer than it takes to charge a chunk. */
const mostStrain = 2

const away = (operation: string) =>
  new ChunkStoreError({ operation, transient: true, reason: "the simulation's database is away" })

const readOnly = (operation: string) =>
  new ChunkStoreError({
    operation,
    transient: true,
    code: "25006",
    reason: "cannot execute it in a read-only transaction"
  })

/** How long a call of the port waits for an answer. Less than a lease, as by default. */
const statementLimit = 1000

const reads: ReadonlyArray<string> = ["ledger", "call", "isNew", "afterCommit"]

/** Puts a fault, or none, around a call of a port. */
const throughOf = (weather: Weather, life: Life) => {
  const note = (what: string) => weather.happened.set(what, (weather.happened.get(what) ?? 0) + 1)
  const blow = (what: string): boolean => {
    if (weather.blows <= 0) return false
    weather.blows--
    note(what)
    return true
  }
  // what a process holds and has not heard of, it does not renew; `recordHeld` holds only one call's chunks, and only once
  const mayLoseAnswer = (operation: string): boolean => {
    if (operation === "claim") return blow("claim's answer lost")
    if (operation === "recordHeld") note("claim's answer lost")
    return true
  }

  return <A, E, R>(operation: string, call: Effect.Effect<A, E, R>): Effect.Effect<A, E | ChunkStoreError, R> =>
    Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      // a handler that waits here would be out of time, which a frozen process does not notice
      if (life.frozenUntil > now && operation !== "write") yield* Effect.sleep(life.frozenUntil - now)
      if (life.dead) return yield* away(operation)
      if (operation === "persist" && weather.readOnlyFor > 0) {
        weather.readOnlyUntil = now + weather.readOnlyFor
        weather.readOnlyFor = 0
        note("read-only")
      }
      const strains = ["persist", "write", "commit"].includes(operation)
      const isStrained = life.strain >= mostStrain
      // Found out by the first statement that writes; from then on a transaction is begun for writing. A worker whose batch
      // would be charged for finding it out knows it already.
      const isRefused = weather.readOnlyUntil > now && !reads.includes(operation) &&
        (operation === "persist" ? life.metReadOnly || isStrained : !strains || !isStrained)
      if (isRefused) {
        if (strains && operation !== "persist") life.strain++
        note("refused")
        life.metReadOnly = true
        if (operation === "write") life.spoiled = "aborted"
        return yield* readOnly(operation)
      }
      const drawn = yield* Random.nextIntBetween(0, 100, { halfOpen: true })
      if (drawn >= weather.percent) {
        if (drawn % 3 === 0) yield* Effect.yieldNow
        if (operation !== "persist") return yield* call
        return yield* Effect.tap(call, () =>
          Effect.sync(() => {
            life.strain = 0
          }))
      }
      const mayFail = (operation !== "settle" || !life.spared) && !(strains && isStrained)
      life.spared = operation === "settle" && mayFail
      // tried again, but not by a worker that stops
      const gives = operation === "settle" || operation === "giveUp"
      const fault = yield* Random.nextIntBetween(0, 11, { halfOpen: true })
      // a settlement that comes too late is what fences are for: more of those
      switch (fault >= 6 && fault <= 8 && operation === "settle" ? 4 : fault) {
        case 0:
          if (!mayFail) return yield* call
          note("fails before")
          if (strains) life.strain++
          if (gives) note("not given back")
          return yield* away(operation)
        case 1:
          if (!mayFail || !mayLoseAnswer(operation)) return yield* call
          note("fails after")
          if (strains) life.strain++
          if (gives) note("not given back")
          yield* call
          return yield* away(operation)
        case 2:
          if (!blow("killed before")) return yield* call
          yield* kill(life)
          return yield* away(operation)
        case 3:
          if (!blow("killed after")) return yield* call
          yield* call
          yield* kill(life)
          return yield* away(operation)
        case 4: {
          // not within a handler: the timers of a process that is frozen stand still as well, and here they do not
          if (operation === "write" || !blow("frozen")) return yield* call
          // beyond the lease, into whatever another worker is about by then
          const length = yield* Random.nextIntBetween(3000, 8000)
          life.frozenUntil = now + length
          yield* Effect.sleep(length)
          return yield* call
        }
        case 5:
          if (!blow("told to stop before")) return yield* call
          yield* stop(life)
          return yield* call
        case 6:
          if (!blow("told to stop after")) return yield* call
          return yield* Effect.tap(call, () => stop(life))
        case 9:
        case 10: {
          const mayBeSilent = mayFail && mayLoseAnswer(operation) && (operation !== "renew" || blow("renewal silent"))
          if (!mayBeSilent) return yield* call
          note("silent")
          if (strains) life.strain++
          if (gives) note("not given back")
          if (operation === "write") {
            life.spoiled = "lost"
            return yield* Effect.never
          }
          if (fault === 10) yield* call
          yield* Effect.sleep(statementLimit)
          return yield* away(operation)
        }
        default:
          note("slow")
          yield* Effect.sleep(yield* Random.nextIntBetween(1, 300))
          return yield* call
      }
    })
}

/** The log as a subscriber sees it, who lives in a worker's process. */
export const faultyLog = (log: EventLog["Service"], weather: Weather, life: Life): EventLog["Service"] => {
  const through = throughOf(weather, life)
  return {
    ...log,
    open: (name, from, feed) => through("open", log.open(name, from, feed)),
    take: (name, options) => through("take", log.take(name, options)),
    advance: (name, token, progress, lease) => through("advance", log.advance(name, token, progress, lease)),
    release: (name, token, release) => through("release", log.release(name, token, release))
  }
}

/** The store as a worker sees it. */
export const faulty = (store: ChunkStore["Service"], weather: Weather, life: Life): ChunkStore["Service"] => {
  const through = throughOf(weather, life)
  const lost = Effect.tapError(through("write", Effect.void), () =>
    Effect.sync(() => {
      life.spoiled ??= "lost"
    }))
  // two transactions at the same rows: one of them is told to try again, on a connection that goes on
  const conflict = Effect.gen(function*() {
    if ((yield* Random.nextIntBetween(0, 400, { halfOpen: true })) >= weather.percent) return
    if (life.strain >= mostStrain) return
    life.strain++
    life.spoiled = "aborted"
    weather.happened.set("conflicts", (weather.happened.get("conflicts") ?? 0) + 1)
    return yield* new TransactionConflict({ table: "clinic.note", key: "a mate's" })
  })
  life.stumble = Effect.andThen(lost, conflict)
  const inTurn = <A, E, R>(persist: Effect.Effect<A, E, R>) => life.connection?.withPermits(1)(persist) ?? persist
  const suffering = (transaction: Transaction): Transaction => ({
    ...transaction,
    insert: (declaration, given) => Effect.tap(transaction.insert(declaration, given), () => life.stumble),
    isSound: Effect.suspend(() => {
      const error = away("write")
      if (life.spoiled === undefined || !store.isTransient(error)) return transaction.isSound
      return life.spoiled === "lost" ? Effect.fail(error) : Effect.succeed(false)
    })
  })
  return {
    ...store,
    record: (calls) => through("record", store.record(calls)),
    recordHeld: (call, hold) => through("recordHeld", store.recordHeld(call, hold)),
    isNew: (callId) => through("isNew", store.isNew(callId)),
    begin: (call, lease) => through("begin", store.begin(call, lease)),
    renewRun: (callId, token, lease) => through("renewRun", store.renewRun(callId, token, lease)),
    abandon: (callId, token, error) => through("abandon", store.abandon(callId, token, error)),
    claim: (request) =>
      through(
        "claim",
        Effect.tap(store.claim(request), ({ chunks }) =>
          Effect.sync(() => {
            for (const { crashes, key } of chunks) if (crashes > 0) weather.crashed.add(key.callId)
          }))
      ),
    recordInside: (call, request) => Effect.interruptible(through("recordInside", store.recordInside(call, request))),
    persistInside: (request) => Effect.interruptible(through("persistInside", store.persistInside(request))),
    giveUp: (token) => through("giveUp", store.giveUp(token)),
    renew: (token, chunks, lease, alone) => through("renew", store.renew(token, chunks, lease, alone)),
    persist: (token, work, ...rest) =>
      through(
        "persist",
        inTurn(store.persist(token, (transaction) => {
          life.spoiled = undefined
          const session = new Session()
          return work(session.watched(suffering(transaction))).pipe(
            Effect.tap(() => through("commit", Effect.void)),
            Effect.provideService(CurrentSession, session)
          )
        }, ...rest))
      ),
    probe: through("probe", store.probe),
    settle: (token, settlements) => through("settle", store.settle(token, settlements)),
    once: (entry, work) => through("once", store.once(entry, work)),
    // an announcement cannot fail, but be late, or never come
    afterCommit: (effect) => Effect.ignore(through("afterCommit", store.afterCommit(effect))),
    beat: (worker, serves) => through("beat", store.beat(worker, serves)),
    leave: (worker) => through("leave", store.leave(worker)),
    ledger: (keys) => through("ledger", store.ledger(keys))
  }
}

/** The dead letters as somebody sees them who repairs. */
export const faultyLetters = (
  letters: DeadLetters["Service"],
  weather: Weather,
  life: Life
): DeadLetters["Service"] => {
  const through = throughOf(weather, life)
  return {
    ...letters,
    beginRepair: (key, options) => through("beginRepair", letters.beginRepair(key, options)),
    endRepair: (key, token, end) => through("endRepair", letters.endRepair(key, token, end))
  }
}

/** Erasure as whoever erases sees it. */
export const faultyErasure = (erasure: Erasure["Service"], weather: Weather, life: Life): Erasure["Service"] => {
  const through = throughOf(weather, life)
  return { ...erasure, erase: (subject, reason) => through("erase", erasure.erase(subject, reason)) }
}

/** What a worker is told of a call. */
export const faultyInspector = (
  inspector: Inspector["Service"],
  weather: Weather,
  life: Life
): Inspector["Service"] => {
  const through = throughOf(weather, life)
  return { ...inspector, call: (callId) => through("call", inspector.call(callId)) }
}
