/**
 * The store on Postgres 15 to 18, over any `SqlClient` of `@effect/sql-pg`. It keeps no session state, so it works on a
 * pool behind a transaction-mode pooler (then make the client with `prepare: false`).
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import {
  AlreadyPersisted,
  ChunksLocked,
  ChunkStore,
  LeaseLost,
  LedgerEntry,
  type Persisted,
  StoreError,
  type Transaction,
  TransactionSpoiled,
  type Watch
} from "../ChunkStore.ts"
import { DeadLetters } from "../DeadLetters.ts"
import { EventLog } from "../EventLog.ts"
import { Inspector } from "../Inspector.ts"
import { freshToken } from "../internal/token.ts"
import { Pauses } from "../Pauses.ts"
import { Retention } from "../Retention.ts"
import * as Settings from "../Settings.ts"
import { type Topic, WakeUp } from "../WakeUp.ts"
import * as Migrations from "./Migrations.ts"
import * as beats from "./pg/beat.ts"
import { make as makeClaiming } from "./pg/claiming.ts"
import type { Lease } from "./pg/connection.ts"
import * as contacts from "./pg/contact.ts"
import * as deadLetters from "./pg/deadLetters.ts"
import { asStoreError, commitError, isLockTimeout, isTransientOfHandler, settleError, storeError } from "./pg/errors.ts"
import * as eventLog from "./pg/eventLog.ts"
import { explaining } from "./pg/explaining.ts"
import * as inspector from "./pg/inspector.ts"
import * as read from "./pg/ledger.ts"
import { longestOf } from "./pg/longest.ts"
import * as pauses from "./pg/pauses.ts"
import * as persisting from "./pg/persist.ts"
import { glance, type Ground, preflight } from "./pg/preflight.ts"
import { checkReadCommitted, mustBeReadCommitted } from "./pg/readCommitted.ts"
import * as rebase from "./pg/rebase.ts"
import * as recording from "./pg/recording.ts"
import * as retention from "./pg/retention.ts"
import * as settling from "./pg/settle.ts"
import { type Tables, tables } from "./pg/tables.ts"
import * as waiting from "./pg/waiting.ts"
import * as wakeUps from "./pg/wakeUp.ts"
import { CurrentRun, type Run, unwatched } from "./pg/watch.ts"
import type { Purpose } from "./Rights.ts"
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

/** A lock was not to be had in time: whose it is, is asked after the rollback. */
class Waited {
  readonly _tag = "Waited"
  readonly persisted: ReadonlyArray<Persisted>
  constructor(persisted: ReadonlyArray<Persisted>) {
    this.persisted = persisted
  }
}

/** A run in a transaction of the caller's, whose statements are not seen. */
class Unseen implements Watch {
  readonly sent = true
  readonly refusal = undefined
  of<A, E, R>(run: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return run
  }
  end(): void {}
}

/** So that a batch of slow handlers holds its locks for no longer than that and its last run. */
const longestOpen = Duration.seconds(1)

const decodeEntry = Schema.decodeUnknownEffect(LedgerEntry)

const makeStore = (
  t: Tables,
  settings: Settings.Settings,
  wakeUp: WakeUp["Service"],
  contact: contacts.Contact
): ChunkStore["Service"] => {
  const { client, sql } = t
  const claiming = makeClaiming(t, settings, contact)
  const releasing = waiting.makeReleasing(t, settings.deadBlocksKey)
  const orDieDecoding = <A, E, R>(effect: Effect.Effect<A, E | Schema.SchemaError, R>) =>
    Effect.catchIf(effect, Schema.isSchemaError, Effect.die) as Effect.Effect<A, Exclude<E, Schema.SchemaError>, R>

  /** After the caller's commit, so that whoever is woken finds something. */
  const hint = (topic: Topic) => sql.afterCommit(wakeUp.hint(topic))

  /** In the transaction, if there is one, that the chunks' disappearance is part of. */
  const wake = Effect.fnUntraced(function*(gone: Parameters<typeof waiting.keysOf>[0]) {
    const keys = waiting.keysOf(gone)
    if (keys.length === 0) return
    const [row] = yield* waiting.wakeFollowers(t, keys, gone.length)
    if (row === undefined || row.woken === 0) return
    claiming.behindEnd()
    yield* hint("chunks")
  })

  /** A transaction as the drain sees it. */
  const transactionOf = (lease: Lease | undefined, began: persisting.Began, outer: Run | undefined): Transaction => {
    const limit = persisting.millisOf(began.transaction_timeout)
    return {
      // in a transaction of the caller's nothing is seen of what is sent: then it is taken to have been
      watch: (rule) => lease?.watch(rule, outer) ?? new Unseen(),
      isSound: unwatched(sql`select 1`).pipe(
        asStoreError("persist"),
        Effect.as(true),
        Effect.catchIf((error) => !error.transient, () => Effect.succeed(false))
      ),
      abandon: lease?.abandon ?? Effect.void,
      longest: limit === undefined ? longestOpen : Duration.min(longestOpen, Duration.millis(limit / 2))
    }
  }

  /** Ledger and queue, at the end of a handlers' transaction. */
  const settleWithin = Effect.fnUntraced(function*(token: string, mark: string, persisted: ReadonlyArray<Persisted>) {
    if (persisted.length === 0) return
    const [settled] = yield* persisting.settlePersisted(t, token, mark, persisted).pipe(
      Effect.mapError((error) =>
        persisting.isInLedger(error)
          ? new InLedger(persisted)
          : isLockTimeout(error)
          ? new Waited(persisted)
          : settleError(error)
      )
    )
    if (settled?.marked === false) {
      return yield* new TransactionSpoiled({ reason: "a handler has ended the transaction that is Sluice's to end" })
    }
    if (settled === undefined || settled.held < persisted.length) {
      return yield* new LeaseLost({ claimed: persisted.length, held: settled?.held ?? 0 })
    }
    yield* wake(persisted.map((line) => line.chunk)).pipe(Effect.mapError(settleError))
    if (persisted.some((line) => line.objects.length > 0)) yield* hint("events")
  })

  const persist = <E, R>(
    token: string,
    work: (transaction: Transaction) => Effect.Effect<ReadonlyArray<Persisted>, E, R>,
    idle?: Duration.Duration
  ) =>
    Effect.suspend(() => {
      // before the handlers have run an error says nothing about them
      let ran = false
      // what they failed with counts, also when the rollback fails: a connection that is gone has rolled back
      let failed: Cause.Cause<E> | undefined
      return client.transaction("persist")(({ isNested, lease }) =>
        Effect.gen(function*() {
          const outer = yield* CurrentRun
          return yield* unwatched(Effect.gen(function*() {
            const mark = yield* freshToken
            const [began] = yield* persisting.begin(t, mark, idle)
            if (began === undefined) return
            if (isNested) yield* mustBeReadCommitted("persist", began.isolation)
            const exit = yield* Effect.exit(work(transactionOf(lease, began, outer)))
            if (Exit.isFailure(exit)) {
              failed = exit.cause
              return yield* Effect.fail(new RolledBack(exit.cause))
            }
            ran = true
            const leaves = isNested || lease === undefined || lease.left.transaction
            if (leaves) yield* persisting.putBack(t, began, isNested).pipe(Effect.mapError(settleError))
            yield* settleWithin(token, mark, exit.value)
            if (isNested) yield* persisting.putOwnBack(t, began).pipe(Effect.mapError(settleError))
          }))
        })
      ).pipe(
        Effect.catchTags({
          SqlError: (error: SqlError) => Effect.fail(ran ? commitError(error) : storeError("persist")(error)),
          InLedger: (error: InLedger) => sayWhich(token, error.persisted),
          Waited: (error: Waited) => sayLocked(token, error.persisted),
          RolledBack: (error: RolledBack<E>) => Effect.failCause(error.cause),
          StoreError: (error: StoreError) => failed === undefined ? Effect.fail(error) : Effect.failCause(failed)
        })
      )
    })

  // a worker that was frozen finds both: its lease lost, and its work done by another
  const sayWhich = (token: string, persisted: ReadonlyArray<Persisted>) =>
    Effect.flatMap(
      client.statement("persist")(persisting.standing(t, token, persisted)),
      ([{ held, kept } = { held: 0, kept: 0 }]) =>
        Effect.fail(
          held < persisted.length
            ? new LeaseLost({ claimed: persisted.length, held })
            : new AlreadyPersisted({ claimed: persisted.length, kept })
        )
    )

  /** The chunks that somebody else holds locked. */
  const sayLocked = (token: string, persisted: ReadonlyArray<Persisted>) =>
    Effect.flatMap(client.statement("persist")(persisting.unlocked(t, token, persisted)), (rows) => {
      const unlocked = new Set(rows.map((row) => row.seq))
      const seqs = persisted.map(({ chunk }) => chunk.seq)
      return Effect.fail(new ChunksLocked({ locked: seqs.filter((seq) => !unlocked.has(seq)) }))
    })

  return ChunkStore.of({
    ...recording.make(t, longestOf(settings), hint("chunks")),

    claim: (request) => client.statement("claim")(claiming.claim(request)),

    giveUp: (token) =>
      settling.giveUp(t, token).pipe(
        Effect.andThen(settling.takeBackCrashes(t, token, undefined)),
        Effect.andThen(Effect.sync(claiming.lookAgain)),
        client.statement("giveUp")
      ),

    renew: Effect.fnUntraced(function*(token, chunks, lease, alone = false) {
      if (chunks.length === 0) return []
      const rows = yield* settling.renew(t, token, chunks.map((chunk) => chunk.seq), lease, alone)
      const held = new Set(rows.map((row) => row.seq))
      return chunks.filter((chunk) => held.has(chunk.seq))
    }, client.statement("renew")),

    persist,
    probe: client.transaction("probe")(() => settling.probe(t)).pipe(Effect.asVoid, asStoreError("probe")),
    isTransient: isTransientOfHandler,

    settle: Effect.fnUntraced(function*(token, settlements) {
      if (settlements.length === 0) return []
      // whether a chunk that leaves its ordering key frees the ones behind it
      const frees = settlements.filter((settlement) =>
        settlement._tag === "Already" || (settlement._tag === "Bury" && !settings.deadBlocksKey)
      )
      const settled = settling.settle(t, token, settlements)
      const gone = frees.map((settlement) => settlement.chunk)
      const rows = yield* gone.some((chunk) => chunk.orderingKey !== undefined)
        ? client.transaction("settle")(() => unwatched(Effect.tap(settled, wake(gone))))
        : settled
      // what is given back stands where it stood, behind what was claimed since
      if (settlements.some((settlement) => settlement._tag === "Release")) claiming.lookAgain()
      const seqs = new Set(rows.map((row) => row.seq))
      const lost = settlements.filter((one) => one._tag === "Release" && one.hung !== true && !seqs.has(one.chunk.seq))
      if (lost.length > 0) yield* settling.takeBackCrashes(t, token, lost.map((one) => one.chunk.seq))
      return settlements.filter((settlement) => seqs.has(settlement.chunk.seq))
    }, client.statement("settle")),

    once: (entry, work) =>
      client.transaction("once")(({ isNested }) =>
        Effect.gen(function*() {
          const outer = yield* CurrentRun
          return yield* unwatched(Effect.gen(function*() {
            if (isNested) yield* checkReadCommitted(t, "once")
            const find = Effect.flatMap(read.ledger(t, [entry.key]), ([line]) => decodeEntry(line))
            yield* persisting.lockChunk(t, entry.key)
            const reserved = yield* persisting.reserve(t, entry)
            if (reserved.length === 0) return { created: false, entry: yield* find }
            const exit = yield* Effect.exit(Effect.provideService(work, CurrentRun, outer))
            if (Exit.isFailure(exit)) return yield* Effect.fail(new RolledBack(exit.cause))
            const gone = yield* persisting.complete(t, entry.key, JSON.stringify(exit.value))
            yield* wake(gone)
            if (exit.value.length > 0) yield* hint("events")
            return { created: true, entry: yield* find }
          }))
        })
      ).pipe(
        Effect.catchTag("SqlError", (error: SqlError) => Effect.fail(storeError("once")(error))),
        orDieDecoding,
        Effect.catchTag("RolledBack", (error) => Effect.failCause(error.cause))
      ),

    afterCommit: (effect) => sql.afterCommit(effect),

    beat: Effect.fnUntraced(function*(worker, serves) {
      const asked = yield* contacts.here
      const [row] = yield* beats.beat(t, worker, serves)
      if (row !== undefined) contact.heard(row.now, asked)
      if ((yield* releasing) > 0) {
        claiming.lookAgain()
        yield* hint("chunks")
      }
      return { unparked: row?.unparked ?? 0, elsewhere: row?.elsewhere ?? [], paused: row?.paused ?? [] }
    }, client.statement("beat")),
    leave: (worker) => beats.leave(t, worker).pipe(Effect.asVoid, client.statement("leave")),

    releaseWaiting: waiting.releaseAll(t, settings.deadBlocksKey).pipe(
      Effect.tap((released) => {
        if (released === 0) return Effect.void
        claiming.lookAgain()
        return hint("chunks")
      })
    ),

    ledger: (keys) =>
      Effect.flatMap(read.ledger(t, keys), Effect.forEach((line) => decodeEntry(line))).pipe(
        orDieDecoding,
        client.statement("ledger")
      )
  })
}

/** A store. `look`: looks at the database first, and says what it learned. */
const makeOn = Effect.fnUntraced(function*<E>(
  look: (sql: SqlClient.SqlClient, settings: Settings.Settings) => Effect.Effect<Ground, E>
) {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const settings = yield* Settings.load
  const { pooled, role } = yield* look(sql, settings)
  const explained = (purpose: Purpose) =>
    role === undefined ? <S extends object>(service: S) => service : explaining(settings.schema, role, purpose)
  const operating = explained("operator")
  const t = tables(sql, settings.schema, settings.statementTimeout)
  const wakeUp = yield* wakeUps.make(sql, settings, pooled)
  const contact = contacts.make(settings.lease)
  const store = contacts.watch(makeStore(t, settings, wakeUp, contact), contact)
  return Context.make(ChunkStore, explained("worker")(store)).pipe(
    Context.add(DeadLetters, operating(deadLetters.make(t, wakeUp.hint("chunks")))),
    Context.add(Pauses, operating(pauses.make(t, sql.afterCommit(wakeUp.hint("pauses"))))),
    Context.add(Retention, operating(retention.make(t))),
    Context.add(EventLog, explained("subscriber")(eventLog.make(t))),
    Context.add(Inspector, operating(inspector.make(t, settings))),
    Context.add(WakeUp, wakeUp)
  )
})

const deaf = Settings.layer({ listen: false })

/** @internal The store on whatever database it is given, for whoever finds out what is wrong with it. Hears no hints. */
export const layerUnchecked: Layer.Layer<Stores, Settings.SettingInvalid, SqlClient.SqlClient> = Layer.effectContext(
  makeOn(() => Effect.succeed({ pooled: true }))
).pipe(Layer.provide(deaf))

/** @internal The store on tables that are Sluice's own, whatever else is wrong, for commands that record nothing. Hears no hints. */
export const layerAsItIs = Layer.effectContext(makeOn(glance)).pipe(Layer.provide(deaf))

/**
 * The store, on a database that has Sluice's tables already (`Migrations`). Fails with `DatabaseUnfit` where it must not start: a
 * database that is not UTF8, a search path that names `pg_catalog` behind another schema, tables that others made, a pooler in
 * transaction mode under a client that prepares statements.
 */
export const layerNoMigrate: Layer.Layer<
  Stores,
  Settings.SettingInvalid | Migrations.DatabaseUnfit | SqlError,
  SqlClient.SqlClient
> = Layer.effectContext(makeOn(preflight))

/** The store; brings Sluice's tables up to date first. Safe when many processes start at once. */
export const layer: Layer.Layer<Stores, Migrations.MigrationError, SqlClient.SqlClient> = layerNoMigrate.pipe(
  Layer.provide(Layer.effectDiscard(rebase.atStart)),
  Layer.provide(Migrations.layer)
)
