/**
 * The store on Postgres 15 to 18, over any `SqlClient` of `@effect/sql-pg`. It keeps no session state, so it works on a
 * pool behind a transaction-mode pooler (then make the client with `prepare: false`).
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import {
  AlreadyPersisted,
  CallView,
  ChunkStore,
  KindStatus,
  LeaseLost,
  LedgerEntry,
  type Persisted,
  type Transaction
} from "../ChunkStore.ts"
import { DeadLetters } from "../DeadLetters.ts"
import { EventLog } from "../EventLog.ts"
import { Pauses } from "../Pauses.ts"
import { Retention } from "../Retention.ts"
import * as Settings from "../Settings.ts"
import { type Topic, WakeUp } from "../WakeUp.ts"
import * as Migrations from "./Migrations.ts"
import * as beats from "./pg/beat.ts"
import { toUtc } from "./pg/chunk.ts"
import { make as makeClaiming } from "./pg/claiming.ts"
import * as deadLetters from "./pg/deadLetters.ts"
import { asStoreError, commitError, inTransaction, isTransientOfHandler, settleError, storeError } from "./pg/errors.ts"
import * as eventLog from "./pg/eventLog.ts"
import { decoder } from "./pg/json.ts"
import { longestOf } from "./pg/longest.ts"
import * as pauses from "./pg/pauses.ts"
import * as persisting from "./pg/persist.ts"
import * as read from "./pg/read.ts"
import * as recording from "./pg/recording.ts"
import * as retention from "./pg/retention.ts"
import * as settling from "./pg/settle.ts"
import { type Tables, tables } from "./pg/tables.ts"
import * as wakeUps from "./pg/wakeUp.ts"
import type { Stores } from "./Stores.ts"

/** Keeps what the handlers failed with apart from what the database fails the transaction with. */
class RolledBack<E> {
  readonly _tag = "RolledBack"
  readonly cause: Cause.Cause<E>
  constructor(cause: Cause.Cause<E>) {
    this.cause = cause
  }
}

/** The ledger had some of these before: which error that is, is asked after the rollback. */
class InLedger {
  readonly _tag = "InLedger"
  readonly persisted: ReadonlyArray<Persisted>
  constructor(persisted: ReadonlyArray<Persisted>) {
    this.persisted = persisted
  }
}

const decodeEntry = Schema.decodeUnknownEffect(LedgerEntry)
const decodeView = decoder(CallView)
const decodeStatus = Schema.decodeUnknownEffect(KindStatus)

const makeStore = (t: Tables, settings: Settings.Settings, wakeUp: WakeUp["Service"]): ChunkStore["Service"] => {
  const { sql } = t
  const claiming = makeClaiming(t, settings)
  const orDieDecoding = <A, E, R>(effect: Effect.Effect<A, E | Schema.SchemaError, R>) =>
    Effect.catchIf(effect, Schema.isSchemaError, Effect.die) as Effect.Effect<A, Exclude<E, Schema.SchemaError>, R>

  /** After the caller's commit, so that whoever is woken finds something. */
  const hint = (topic: Topic) => sql.afterCommit(wakeUp.hint(topic))

  /** In the transaction, if there is one, that the chunks' disappearance is part of. */
  const wake = Effect.fnUntraced(function*(keys: ReadonlyArray<string | null | undefined>) {
    // always in the same order, so that two of these cannot wait for each other
    const distinct = [...new Set(keys)].filter((key) => typeof key === "string").sort()
    if (distinct.length === 0) return
    const [row] = yield* persisting.wakeFollowers(t, distinct, keys.length)
    if (row === undefined || row.woken === 0) return
    claiming.behindEnd()
    yield* hint("chunks")
  })

  const transaction: Transaction = {
    // an id is assigned to a transaction when it first writes
    untouched: sql<{ untouched: boolean }>`select pg_current_xact_id_if_assigned() is null as untouched`.pipe(
      Effect.map((rows) => rows[0]?.untouched === true),
      asStoreError("persist")
    )
  }

  const persist = <E, R>(
    token: string,
    work: (transaction: Transaction) => Effect.Effect<ReadonlyArray<Persisted>, E, R>,
    idle?: Duration.Duration
  ) =>
    Effect.suspend(() => {
      // before the handlers have run an error says nothing about them
      let ran = false
      return Effect.gen(function*() {
        if (idle !== undefined) yield* persisting.limitIdle(t, idle)
        const exit = yield* Effect.exit(work(transaction))
        if (Exit.isFailure(exit)) return yield* Effect.fail(new RolledBack(exit.cause))
        ran = true
        const persisted = exit.value
        if (persisted.length === 0) return
        const [settled] = yield* persisting.settlePersisted(t, token, persisted).pipe(
          Effect.mapError((error) => persisting.isInLedger(error) ? new InLedger(persisted) : settleError(error))
        )
        if (settled === undefined || settled.held < persisted.length) {
          return yield* new LeaseLost({ claimed: persisted.length, held: settled?.held ?? 0 })
        }
        yield* wake(persisted.map((line) => line.chunk.orderingKey)).pipe(Effect.mapError(settleError))
        if (persisted.some((line) => line.objects.length > 0)) yield* hint("events")
      }).pipe(
        inTransaction(sql, "persist"),
        Effect.catchTags({
          SqlError: (error: SqlError) => Effect.fail(ran ? commitError(error) : storeError("persist")(error)),
          InLedger: (error: InLedger) => sayWhich(token, error.persisted),
          RolledBack: (error: RolledBack<E>) => Effect.failCause(error.cause)
        })
      )
    })

  // a worker that was frozen finds both: its lease lost, and its work done by another
  const sayWhich = (token: string, persisted: ReadonlyArray<Persisted>) =>
    Effect.flatMap(
      asStoreError("persist")(persisting.standing(t, token, persisted)),
      ([{ held, kept } = { held: 0, kept: 0 }]) =>
        Effect.fail(
          held < persisted.length
            ? new LeaseLost({ claimed: persisted.length, held })
            : new AlreadyPersisted({ claimed: persisted.length, kept })
        )
    )

  return ChunkStore.of({
    ...recording.make(t, longestOf(settings), hint("chunks")),

    claim: (request) => asStoreError("claim")(claiming.claim(request)),

    giveUp: (token) =>
      Effect.andThen(settling.giveUp(t, token), Effect.sync(claiming.lookAgain)).pipe(asStoreError("giveUp")),

    renew: Effect.fnUntraced(function*(token, chunks, lease, alone = false) {
      if (chunks.length === 0) return
      const rows = yield* settling.renew(t, token, chunks.map((chunk) => chunk.seq), lease, alone)
      if (rows.length < chunks.length) {
        return yield* new LeaseLost({ claimed: chunks.length, held: rows.length })
      }
    }, asStoreError("renew")),

    persist,
    isTransient: isTransientOfHandler,

    settle: Effect.fnUntraced(function*(token, settlements) {
      if (settlements.length === 0) return []
      // whether a chunk that leaves its ordering key frees the ones behind it
      const frees = settlements.filter((settlement) =>
        settlement._tag === "Already" || (settlement._tag === "Bury" && !settings.deadBlocksKey)
      )
      const settled = settling.settle(t, token, settlements)
      const keys = frees.map((settlement) => settlement.chunk.orderingKey)
      const rows = yield* keys.some((key) => key !== undefined)
        ? inTransaction(sql, "settle")(Effect.tap(settled, wake(keys)))
        : settled
      // what is given back stands where it stood, behind what was claimed since
      if (settlements.some((settlement) => settlement._tag === "Release")) claiming.lookAgain()
      const seqs = new Set(rows.map((row) => row.seq))
      return settlements.filter((settlement) => seqs.has(settlement.chunk.seq))
    }, asStoreError("settle")),

    once: (entry, work) =>
      Effect.gen(function*() {
        const find = Effect.flatMap(read.ledger(t, [entry.key]), ([line]) => decodeEntry(line))
        const reserved = yield* persisting.reserve(t, entry)
        if (reserved.length === 0) return { created: false, entry: yield* find }
        const exit = yield* Effect.exit(work)
        if (Exit.isFailure(exit)) return yield* Effect.fail(new RolledBack(exit.cause))
        const gone = yield* persisting.complete(t, entry.key, JSON.stringify(exit.value))
        yield* wake(gone.map((row) => row.ordering_key))
        if (exit.value.length > 0) yield* hint("events")
        return { created: true, entry: yield* find }
      }).pipe(
        inTransaction(sql, "once"),
        Effect.catchTag("SqlError", (error: SqlError) => Effect.fail(storeError("once")(error))),
        orDieDecoding,
        Effect.catchTag("RolledBack", (error) => Effect.failCause(error.cause))
      ),

    afterCommit: (effect) => sql.afterCommit(effect),

    beat: (worker, serves) =>
      beats.beat(t, worker, serves).pipe(
        Effect.map(([row]) => ({
          unparked: row?.unparked ?? 0,
          elsewhere: row?.elsewhere ?? [],
          paused: row?.paused ?? []
        })),
        asStoreError("beat")
      ),
    leave: (worker) => beats.leave(t, worker).pipe(Effect.asVoid, asStoreError("leave")),

    ledger: (keys) =>
      Effect.flatMap(read.ledger(t, keys), Effect.forEach((line) => decodeEntry(line))).pipe(
        orDieDecoding,
        asStoreError("ledger")
      ),
    call: (callId) =>
      Effect.flatMap(
        read.call(t, callId, settings.deadBlocksKey, longestOf(settings)),
        (view) => view === undefined ? Effect.succeedNone : Effect.asSome(decodeView(view))
      ).pipe(
        orDieDecoding,
        asStoreError("call")
      ),
    status: Effect.flatMap(read.status(t), Effect.forEach((row) => decodeStatus(row.row))).pipe(
      orDieDecoding,
      asStoreError("status")
    ),
    nextDue: Effect.map(
      read.nextDue(t),
      ([row]) => row?.at === null || row?.at === undefined ? Option.none() : Option.some(toUtc(row.at))
    ).pipe(
      asStoreError("nextDue")
    )
  })
}

const make = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const settings = yield* Settings.load
  const t = tables(sql, settings.schema)
  const wakeUp = yield* wakeUps.make(sql, settings)
  return Context.make(ChunkStore, makeStore(t, settings, wakeUp)).pipe(
    Context.add(DeadLetters, deadLetters.make(t, wakeUp.hint("chunks"))),
    Context.add(Pauses, pauses.make(t, sql.afterCommit(wakeUp.hint("pauses")))),
    Context.add(Retention, retention.make(t)),
    Context.add(EventLog, eventLog.make(t)),
    Context.add(WakeUp, wakeUp)
  )
})

/** The store, on a database that has Sluice's tables already (`Migrations`). */
export const layerNoMigrate: Layer.Layer<Stores, Settings.SettingInvalid, SqlClient.SqlClient> = Layer.effectContext(
  make
)

/** The store; brings Sluice's tables up to date first. Safe when many processes start at once. */
export const layer: Layer.Layer<
  Stores,
  Settings.SettingInvalid | Migrator.MigrationError | SqlError,
  SqlClient.SqlClient
> = layerNoMigrate.pipe(Layer.provide(Migrations.layer))
