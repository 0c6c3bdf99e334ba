/**
 * The store on Postgres 15 to 18, over any `SqlClient` of `@effect/sql-pg`. It keeps no session state, so it works on a
 * pool behind a transaction-mode pooler (then make the client with `prepare: false`).
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
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
  type RecordOutcome,
  type StoreError,
  type Transaction
} from "../ChunkStore.ts"
import { DeadLetters } from "../DeadLetters.ts"
import { EventLog } from "../EventLog.ts"
import { freshToken } from "../internal/token.ts"
import { Pauses } from "../Pauses.ts"
import { Retention } from "../Retention.ts"
import * as Settings from "../Settings.ts"
import { type Topic, WakeUp } from "../WakeUp.ts"
import * as Migrations from "./Migrations.ts"
import * as beats from "./pg/beat.ts"
import { toUtc } from "./pg/chunk.ts"
import { make as makeClaiming } from "./pg/claiming.ts"
import * as contacts from "./pg/contact.ts"
import * as deadLetters from "./pg/deadLetters.ts"
import { asStoreError, commitError, inTransaction, isTransientOfHandler, settleError, storeError } from "./pg/errors.ts"
import * as eventLog from "./pg/eventLog.ts"
import { decoder } from "./pg/json.ts"
import * as pauses from "./pg/pauses.ts"
import * as persisting from "./pg/persist.ts"
import * as read from "./pg/read.ts"
import { compare, type Given, given, recordMany, recordOne } from "./pg/record.ts"
import * as retention from "./pg/retention.ts"
import * as runs from "./pg/run.ts"
import * as settling from "./pg/settle.ts"
import { type Tables, tables } from "./pg/tables.ts"
import * as waiting from "./pg/waiting.ts"
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

/** The most bytes and calls of one statement: what a server takes at once has an end, and so has a string in Node. */
const mostBytes = 16 * 1024 * 1024
const mostCalls = 1000

const inPortions = (calls: ReadonlyArray<Given>): ReadonlyArray<ReadonlyArray<Given>> => {
  const portions: Array<Array<Given>> = []
  let bytes = 0
  for (const one of calls) {
    const { context, input, outputs } = one.text
    const length = outputs.reduce((sum, output) => sum + output.length, context.length + input.length)
    const last = portions.at(-1)
    if (last === undefined || last.length === mostCalls || bytes + length > mostBytes) {
      portions.push([one])
      bytes = length
    } else {
      last.push(one)
      bytes += length
    }
  }
  return portions
}

const decodeEntry = Schema.decodeUnknownEffect(LedgerEntry)
const decodeView = decoder(CallView)
const decodeStatus = Schema.decodeUnknownEffect(KindStatus)

const makeStore = (
  t: Tables,
  settings: Settings.Settings,
  wakeUp: WakeUp["Service"],
  contact: contacts.Contact
): ChunkStore["Service"] => {
  const { sql } = t
  const claiming = makeClaiming(t, settings, contact)
  const releasing = waiting.makeReleasing(t, settings.deadBlocksKey)
  const orDieDecoding = <A, E, R>(effect: Effect.Effect<A, E | Schema.SchemaError, R>) =>
    Effect.catchIf(effect, Schema.isSchemaError, Effect.die) as Effect.Effect<A, Exclude<E, Schema.SchemaError>, R>

  const recordDistinct = Effect.fnUntraced(function*(calls: ReadonlyArray<Given>) {
    const outcomes = new Map<string, RecordOutcome>()
    const portions = inPortions(calls)
    const writing = Effect.forEach(portions, (portion) => recordMany(t, portion))
    // one statement is one commit by itself
    const written = yield* portions.length > 1 ? inTransaction(sql, "record")(writing) : writing
    for (const row of written.flat()) outcomes.set(row.call_id, "recorded")
    const rest = calls.filter(({ call }) => !outcomes.has(call.callId))
    for (const row of (yield* Effect.forEach(inPortions(rest), (portion) => compare(t, portion))).flat()) {
      outcomes.set(row.call_id, row.same ? "unchanged" : "conflict")
    }
    return outcomes
  })

  const recordSingle = recordOne(t)
  const sameOrNot = (one: Given) =>
    Effect.map(compare(t, [one]), ([row]): RecordOutcome => row?.same === true ? "unchanged" : "conflict")

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
        yield* wake(persisted.map((line) => line.chunk)).pipe(Effect.mapError(settleError))
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
    record: Effect.fnUntraced(function*(calls): Effect.fn.Return<ReadonlyArray<RecordOutcome>, StoreError | SqlError> {
      const [only] = calls
      if (only !== undefined && calls.length === 1 && only.outputs.length === 1) {
        const text = given(only)
        const rows = yield* recordSingle(text)
        if (rows.length > 0) {
          yield* hint("chunks")
          return ["recorded"]
        }
        return [yield* sameOrNot(text)]
      }
      // one statement cannot meet the same new row twice: of calls with one id the first is recorded, and the others
      // are compared with it
      const first = new Map<string, Given>()
      for (const call of calls) if (!first.has(call.callId)) first.set(call.callId, given(call))
      const outcomes = yield* recordDistinct([...first.values()])
      if ([...outcomes.values()].includes("recorded")) yield* hint("chunks")
      const later = new Set<string>()
      return yield* Effect.forEach(calls, (call) => {
        const outcome = outcomes.get(call.callId) ?? "conflict"
        if (later.has(call.callId)) return sameOrNot(given(call))
        later.add(call.callId)
        return Effect.succeed(outcome)
      })
    }, asStoreError("record")),

    begin: Effect.fnUntraced(function*(call, lease) {
      if (Option.isSome(yield* Effect.serviceOption(sql.transactionService))) return { _tag: "InTransaction" } as const
      const token = yield* freshToken
      const [begun] = yield* runs.begin(t, call, token, lease)
      if (begun !== undefined) return { _tag: "Begun", token, takenOver: begun.taken_over } as const
      const [row] = yield* runs.find(t, call)
      if (row?.same === false) return { _tag: "Conflict" } as const
      if (row?.status === "succeeded") return { _tag: "Succeeded", call: runs.toCall(row) } as const
      const until = row?.run_until ?? undefined
      return {
        _tag: "Running",
        until: until === undefined ? yield* DateTime.now : toUtc(until)
      } as const
    }, asStoreError("begin")),

    renewRun: (callId, token, lease) =>
      Effect.map(runs.renew(t, callId, token, lease), (rows) => rows.length > 0).pipe(asStoreError("renewRun")),

    abandon: (callId, token, error) =>
      (error === undefined
        ? runs.giveBack(t, callId, token)
        : runs.fail(t, callId, token, error.replaceAll("\0", "\\0")))
        .pipe(Effect.asVoid, asStoreError("abandon")),

    claim: (request) => asStoreError("claim")(claiming.claim(request)),

    giveUp: (token) =>
      settling.giveUp(t, token).pipe(
        Effect.andThen(settling.takeBackCrashes(t, token, undefined)),
        Effect.andThen(Effect.sync(claiming.lookAgain)),
        asStoreError("giveUp")
      ),

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
      const gone = frees.map((settlement) => settlement.chunk)
      const rows = yield* gone.some((chunk) => chunk.orderingKey !== undefined)
        ? inTransaction(sql, "settle")(Effect.tap(settled, wake(gone)))
        : settled
      // what is given back stands where it stood, behind what was claimed since
      if (settlements.some((settlement) => settlement._tag === "Release")) claiming.lookAgain()
      const seqs = new Set(rows.map((row) => row.seq))
      const lost = settlements.filter((one) => one._tag === "Release" && one.hung !== true && !seqs.has(one.chunk.seq))
      if (lost.length > 0) yield* settling.takeBackCrashes(t, token, lost.map((one) => one.chunk.seq))
      return settlements.filter((settlement) => seqs.has(settlement.chunk.seq))
    }, asStoreError("settle")),

    once: (entry, work) =>
      Effect.gen(function*() {
        const find = Effect.flatMap(read.ledger(t, [entry.key]), (rows) => decodeEntry(rows[0]?.entry))
        const reserved = yield* persisting.reserve(t, entry)
        if (reserved.length === 0) return { created: false, entry: yield* find }
        const exit = yield* Effect.exit(work)
        if (Exit.isFailure(exit)) return yield* Effect.fail(new RolledBack(exit.cause))
        const gone = yield* persisting.complete(t, entry.key, JSON.stringify(exit.value))
        yield* wake(gone)
        if (exit.value.length > 0) yield* hint("events")
        return { created: true, entry: yield* find }
      }).pipe(
        inTransaction(sql, "once"),
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
    }, asStoreError("beat")),
    leave: (worker) => beats.leave(t, worker).pipe(Effect.asVoid, asStoreError("leave")),

    ledger: (keys) =>
      Effect.flatMap(read.ledger(t, keys), Effect.forEach((row) => decodeEntry(row.entry))).pipe(
        orDieDecoding,
        asStoreError("ledger")
      ),
    call: (callId) =>
      Effect.flatMap(
        read.call(t, callId, settings.deadBlocksKey),
        ([row]) => row === undefined ? Effect.succeedNone : Effect.asSome(decodeView(row.view))
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
  const contact = contacts.make(settings.lease)
  return Context.make(ChunkStore, contacts.watch(makeStore(t, settings, wakeUp, contact), contact)).pipe(
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
