/**
 * The verb `persist`: runs the handlers' transaction and settles ledger and queue at its end.
 */
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SqlError } from "effect/sql/SqlError"
import {
  AlreadyPersisted,
  ChunksLocked,
  type ChunkStoreError,
  LeaseLost,
  type Persisted,
  type ToRecord,
  type Transaction,
  TransactionSpoiled,
  type Unrecorded
} from "../../ChunkStore.ts"
import type { Insert } from "../../Declaration.ts"
import { freshToken } from "../../internal/freshToken.ts"
import { type Commit, longestAfterCommit, notHeldUp } from "./afterCommit.ts"
import { rowsOf, unnested } from "./columns.ts"
import type { Lease, Place } from "./connection.ts"
import type { Engine } from "./engine.ts"
import { failCommit, failSettle, failStore, isLockTimeout } from "./errors.ts"
import { given } from "./given.ts"
import { beginHandling, putBack, putOwnBack, RolledBack, transactionOf } from "./handling.ts"
import { mustBeReadCommitted } from "./readCommitted.ts"
import { isOneDone, recordOneDone } from "./recordDone.ts"
import { heldOf, recordOneHeld } from "./recordHeld.ts"
import type { Tables } from "./tables.ts"
import { CurrentRun, type Run, unwatched } from "./watch.ts"

/**
 * How long the settlement waits for a lock. Only `once` locks a row that a claim holds, and its effect takes as long as the
 * application likes. The batch continues without that chunk.
 */
const longestWait = "2s"

/** The statement's answer. If `held` is less than given, the lease is lost. */
interface Settled {
  readonly held: number
  /** Whether the transaction is the one that was begun. If not, the statement did nothing. */
  readonly marked: boolean
  /** Whether a subscription to ends of calls exists. */
  readonly ends: boolean
}

/**
 * Deletes the queue rows that this token still holds, and writes the ledger. Does nothing in a transaction without the mark
 * of {@link beginHandling}.
 *
 * - It has no joins: the planner expects one row for a token, and a join planned for one row took 87 of 91 ms for 500.
 * - The limit for waiting at locks is set before the first row is deleted, because the deletion depends on it.
 * - A second writer waits at the ledger's key for the first one's commit, and then fails: see {@link isInLedger}. It would
 *   be rolled back anyway, and `on conflict do nothing`, which writes each row in two steps, took a quarter of this
 *   statement's time (8.6 against 6.6 us a row).
 */
const statement = (t: Tables, token: string, mark: string, persisted: ReadonlyArray<Persisted>) => {
  const { callSubscription, ledger, queue, sql } = t
  const line = rowsOf(t, [
    { name: "seq", type: "bigint", values: persisted.map(({ chunk }) => chunk.seq) },
    { name: "call_id", type: "text", values: persisted.map(({ chunk }) => chunk.key.callId) },
    { name: "schema_identity", type: "text", values: persisted.map(({ chunk }) => chunk.key.schemaIdentity) },
    { name: "part", type: "text", values: persisted.map(({ chunk }) => chunk.key.part) },
    { name: "namespace", type: "text", values: persisted.map(({ chunk }) => chunk.namespace) },
    { name: "schema_version", type: "int", values: persisted.map(({ chunk }) => chunk.schemaVersion) },
    { name: "handler", type: "text", values: persisted.map((one) => one.handler) },
    { name: "handler_version", type: "int", values: persisted.map((one) => one.handlerVersion) },
    { name: "objects", type: "text", values: persisted.map((one) => JSON.stringify(one.objects)) }
  ])
  return sql<Settled>`
    with mark as materialized (
      select pg_catalog.set_config('lock_timeout', ${longestWait}, true) as limited
      where pg_catalog.current_setting('sluice.transaction', true) operator(pg_catalog.=) ${mark}
    ), line as materialized (
      select l.* from mark cross join (${line}) l
    ), gone as (
      delete from ${queue}
      where seq = any((select pg_catalog.array_agg(seq) from line)::bigint[]) and lease_token = ${token}::pg_catalog.uuid
      returning 1
    ), kept as (
      insert into ${ledger} (
        seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects
      )
      select seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects::pg_catalog.jsonb
      from line
    )
    select pg_catalog.count(*)::int as held, exists (select from mark) as marked,
      exists (select from ${callSubscription}) as ends
    from gone`
}

/** Whether the ledger already contained one of the rows. */
const isInLedger = ({ reason }: SqlError): boolean =>
  reason._tag === "UniqueViolation" && reason.constraint === "persisted_chunk_pkey"

/** After such a failure: how many are still held, and how many are not in the ledger. */
const standing = (t: Tables, token: string, persisted: ReadonlyArray<Persisted>) =>
  t.sql<{ held: number; kept: number }>`
    select pg_catalog.count(*) filter (where exists (
        select from ${t.queue} q where q.seq = g.seq and q.lease_token = ${token}::pg_catalog.uuid
      ))::int as held,
      pg_catalog.count(*) filter (where not exists (
        select from ${t.ledger} l
        where l.call_id = g.call_id and l.schema_identity = g.schema_identity and l.part = g.part
      ))::int as kept
    from ${
    unnested(t, [
      t.sql`${persisted.map(({ chunk }) => chunk.seq)}::bigint[]`,
      t.sql`${persisted.map(({ chunk }) => chunk.key.callId)}::pg_catalog.text[]`,
      t.sql`${persisted.map(({ chunk }) => chunk.key.schemaIdentity)}::pg_catalog.text[]`,
      t.sql`${persisted.map(({ chunk }) => chunk.key.part)}::pg_catalog.text[]`
    ])
  } g(seq, call_id, schema_identity, part)`

/**
 * Which of these rows are not locked, after a settlement that had to wait: another transaction, for example of `once`, holds
 * the others.
 */
const unlocked = ({ queue, sql }: Tables, token: string, persisted: ReadonlyArray<Persisted>) =>
  sql<{ seq: bigint }>`
    select seq from ${queue}
    where seq = any(${persisted.map(({ chunk }) => chunk.seq)}::bigint[]) and lease_token = ${token}::pg_catalog.uuid
    for update skip locked`

/** The ledger already contained some of these. Which error that means is determined after the rollback. */
class InLedger {
  readonly _tag = "InLedger"
  readonly persisted: ReadonlyArray<Persisted>
  constructor(persisted: ReadonlyArray<Persisted>) {
    this.persisted = persisted
  }
}

/** Fewer chunks are held than were persisted. Whether the lease is lost is determined after the rollback. */
class NotHeld {
  readonly _tag = "NotHeld"
  readonly persisted: ReadonlyArray<Persisted>
  constructor(persisted: ReadonlyArray<Persisted>) {
    this.persisted = persisted
  }
}

/** A lock was not available in time. Which chunks are locked is determined after the rollback. */
class Waited {
  readonly _tag = "Waited"
  readonly persisted: ReadonlyArray<Persisted>
  constructor(persisted: ReadonlyArray<Persisted>) {
    this.persisted = persisted
  }
}

const ended = new TransactionSpoiled({
  reason: "a handler ended the transaction, which only Sluice may end, or reset all settings"
})

/** What has become of the handlers' run. */
interface RunOutcome<E> {
  /** An error before the handlers have run is not theirs. */
  ran: boolean
  /** The handlers' failure counts even when the rollback fails: a lost connection has rolled back. */
  failed: Cause.Cause<E> | undefined
}

/** What the verb was asked for. */
interface Asked<E, R> {
  readonly token: string
  readonly work: (transaction: Transaction) => Effect.Effect<ReadonlyArray<Persisted>, E, R>
  readonly idle: Duration.Duration | undefined
  readonly toRecord: ToRecord | undefined
  readonly outcome: RunOutcome<E>
}

/** The verb. */
export const persist = ({ close, compiling, hint, insert, settings, t, wake }: Engine) => {
  const { client } = t
  const begin = beginHandling(t)
  const recordOne = recordOneDone(t)

  /**
   * Carries out declarations. What code of their tables may leave in the transaction or the session is undone later.
   */
  const insertOn = (lease: Lease | undefined): Insert => (declaration, answers) =>
    Effect.ensuring(
      insert(declaration, answers),
      Effect.sync(() => {
        if (lease !== undefined && compiling.runsCode(declaration)) lease.noteAll()
      })
    )

  /** Settles ledger and queue, at the end of a handlers' transaction. */
  const settleWithin = Effect.fnUntraced(function*(token: string, mark: string, persisted: ReadonlyArray<Persisted>) {
    const [settled] = yield* statement(t, token, mark, persisted).pipe(
      Effect.catch((error): Effect.Effect<never, InLedger | Waited | ChunkStoreError | TransactionSpoiled> =>
        isInLedger(error)
          ? Effect.fail(new InLedger(persisted))
          : isLockTimeout(error)
          ? Effect.fail(new Waited(persisted))
          : failSettle(error)
      )
    )
    if (settled?.marked === false) return yield* ended
    if (settled === undefined || settled.held < persisted.length) {
      return yield* Effect.fail(new NotHeld(persisted))
    }
    yield* wake(persisted.map((line) => line.chunk)).pipe(Effect.catch(failSettle))
    if (settled.ends) yield* close(persisted.map(({ chunk }) => chunk.key.callId))
  })

  /**
   * Records the call of the persisted chunks instead. If another session holds a lock on the call, it is recording the same
   * call, and the lease is lost. If this claim has recorded the call beside the transaction, and that answer was lost, the
   * chunks are settled as usual.
   */
  const recordWithin = Effect.fnUntraced(
    function*(mark: string, { call, hold, recorded }: Unrecorded, persisted: ReadonlyArray<Persisted>) {
      const lost = () => Effect.fail(new LeaseLost({ claimed: persisted.length, held: 0 }))
      const { deadBlocksKey } = settings
      const asked = given(call)
      const done = { mark, persisted }
      const recording = isOneDone(asked, done)
        ? recordOne(asked, done)
        : recordOneHeld(t, asked, hold, { deadBlocksKey, done })
      const [row] = yield* Effect.catch(
        recording,
        (error): Effect.Effect<never, LeaseLost | ChunkStoreError | TransactionSpoiled> =>
          isInLedger(error) || isLockTimeout(error) ? lost() : failSettle(error)
      )
      if (row?.marked === false) return yield* ended
      const seqs = row?.seqs ?? (yield* heldOf(t, call, hold.token).pipe(Effect.catch(failSettle)))
      if (seqs === undefined) return yield* lost()
      recorded(seqs)
      if (!row?.seqs) return yield* settleWithin(hold.token, mark, persisted)
      if (row.ends) yield* close([call.callId])
    }
  )

  /** What is done in the transaction. */
  const handleWithin = Effect.fnUntraced(function*<E, R>(
    { idle, outcome, toRecord, token, work }: Asked<E, R>,
    { first }: Commit,
    { isNested, lease }: Place,
    outer: Run | undefined
  ) {
    const mark = yield* freshToken
    const [began] = yield* begin({ mark, token, idle, call: toRecord?.call })
    if (began === undefined) return
    if (!began.may) {
      toRecord?.notNew()
      return yield* new LeaseLost({ claimed: toRecord?.call.outputs.length ?? 0, held: 0 })
    }
    if (isNested) yield* mustBeReadCommitted(began.isolation)
    const exit = yield* Effect.exit(work(transactionOf(t, insertOn(lease), { lease, began, outer, first })))
    if (Exit.isFailure(exit)) {
      outcome.failed = exit.cause
      return yield* Effect.fail(new RolledBack(exit.cause))
    }
    outcome.ran = true
    const leaves = isNested || lease === undefined || lease.left.transaction
    if (leaves) yield* putBack(t, began, isNested).pipe(Effect.catch(failSettle))
    const persisted = exit.value
    if (persisted.length > 0) {
      const call = toRecord === undefined ? undefined : yield* toRecord.atEnd
      yield* call === undefined
        ? first(settleWithin(token, mark, persisted))
        : first(recordWithin(mark, call, persisted))
    }
    if (persisted.some(({ objects }) => objects.length > 0)) yield* first(hint("events"))
    if (isNested) yield* putOwnBack(t, began).pipe(Effect.catch(failSettle))
  })

  const persist = <E, R>(
    token: string,
    work: (transaction: Transaction) => Effect.Effect<ReadonlyArray<Persisted>, E, R>,
    idle?: Duration.Duration,
    toRecord?: ToRecord
  ) =>
    Effect.suspend(() => {
      const outcome: RunOutcome<E> = { ran: false, failed: undefined }
      const asked: Asked<E, R> = { token, work, idle, toRecord, outcome }
      const transaction = (commit: Commit) =>
        client.transaction((place) =>
          Effect.andThen(
            commit.begun,
            Effect.flatMap(CurrentRun, (outer) => unwatched(handleWithin(asked, commit, place, outer)))
          )
        )
      return notHeldUp(t, idle ?? longestAfterCommit, transaction).pipe(
        Effect.catchTags({
          SqlError: (error: SqlError) => outcome.ran ? failCommit(error) : failStore(error),
          InLedger: (error: InLedger) => sayWhich(token, error.persisted),
          NotHeld: (error: NotHeld) => sayWhether(token, error.persisted),
          Waited: (error: Waited) => sayLocked(token, error.persisted),
          RolledBack: (error: RolledBack<E>) => Effect.failCause(error.cause),
          ChunkStoreError: (error: ChunkStoreError) =>
            outcome.failed === undefined ? Effect.fail(error) : Effect.failCause(outcome.failed)
        })
      )
    })

  // after a freeze both may be true: the lease is lost, and another worker has persisted the chunks; then the lease counts
  const sayWhich = (token: string, persisted: ReadonlyArray<Persisted>) =>
    Effect.flatMap(
      client.statement(standing(t, token, persisted)),
      ([{ held, kept } = { held: 0, kept: 0 }]) =>
        Effect.fail(
          held < persisted.length
            ? new LeaseLost({ claimed: persisted.length, held })
            : new AlreadyPersisted({ claimed: persisted.length, kept })
        )
    )

  /**
   * If all are held after the rollback, the lease is not lost: a handler has removed some from the queue, or changed them.
   */
  const sayWhether = (token: string, persisted: ReadonlyArray<Persisted>) =>
    Effect.flatMap(
      client.statement(standing(t, token, persisted)),
      ([{ held } = { held: 0 }]): Effect.Effect<never, LeaseLost | TransactionSpoiled> =>
        Effect.fail(
          held < persisted.length ? new LeaseLost({ claimed: persisted.length, held }) : new TransactionSpoiled({
            reason: "a handler has removed chunks of its batch from Sluice's queue, for example by erasing its own call"
          })
        )
    )

  /** Fails with the chunks that another transaction holds locked. */
  const sayLocked = (token: string, persisted: ReadonlyArray<Persisted>) =>
    Effect.flatMap(client.statement(unlocked(t, token, persisted)), (rows) => {
      const unlocked = new Set(rows.map((row) => row.seq))
      const seqs = persisted.map(({ chunk }) => chunk.seq)
      return Effect.fail(new ChunksLocked({ locked: seqs.filter((seq) => !unlocked.has(seq)) }))
    })

  return persist
}
