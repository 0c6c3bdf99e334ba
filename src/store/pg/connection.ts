/**
 * The connections of Sluice's transactions. They are taken from the application's own client, so handlers that use that
 * client run in the transaction. Added are a time limit for each of Sluice's own statements, and checks of the statements
 * that handlers send.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import type { Restore } from "../../internal/restore.ts"
import { codeOf } from "./errors.ts"
import { CurrentRun, type Left, Run } from "./watch.ts"

/** Fails because the database did not answer in time. */
export const noAnswer = (limit: Duration.Duration, what: string): Effect.Effect<never, SqlError> => {
  const message = `no answer within ${Duration.format(limit)}`
  return Effect.andThen(
    Effect.logWarning(`the database gave ${message} to ${what}; its connection is closed`),
    Effect.fail(new SqlError({ reason: new ConnectionError({ cause: new Error(message), message, operation: what }) }))
  )
}

/** Fails when the database does not answer in time, and interrupts the effect: the client then closes the connection. */
export const within =
  (limit: Duration.Duration, what: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
    // interruptible inside, so the limit holds while the waiting fiber is uninterruptible
    Effect.timeoutOrElse(Effect.interruptible(effect), { duration: limit, orElse: () => noAnswer(limit, what) })

const isOver = () => {
  const message = "the transaction is over"
  return new SqlError({ reason: new ConnectionError({ cause: new Error(message), message, operation: "query" }) })
}

// `reset all` leaves the role, which a database, a role or the client's options may have set for the begin of a session
const reset = `do $reset$
declare prepared record;
begin
  execute 'close all';
  execute 'set session authorization default';
  execute 'reset role';
  execute 'reset all';
  execute 'unlisten *';
  perform pg_catalog.pg_advisory_unlock_all();
  execute 'discard temp';
  execute 'discard sequences';
  for prepared in select name from pg_catalog.pg_prepared_statements where from_sql loop
    execute pg_catalog.format('deallocate %I', prepared.name);
  end loop;
end $reset$`

/** Whether the client ends its transaction by this statement. */
const isEnd = (sql: string): boolean => sql === "COMMIT" || sql === "ROLLBACK"

/** How many milliseconds a session is left idle for the server to end it, and how often. */
const idle = 20
const mostIdle = 100

/** A connection that belongs to one transaction. */
export class Lease {
  readonly left: Left = { transaction: false, session: false }
  /** Set when the connection must not be reused. */
  isUseless = false
  readonly #connection: Connection
  readonly #scope: Scope.Closeable
  readonly #limit: Duration.Duration
  readonly #service: SqlClient.SqlClient["transactionService"]
  /** The open streams of each run, which hold the connection as long as they are open. */
  readonly #streams = new Map<Run, Set<Scope.Closeable>>()
  #inFlight = 0
  #closed = false
  /** The connection that the transaction runs on. */
  readonly connection: Connection

  constructor(
    connection: Connection,
    { limit, scope, service }: {
      readonly scope: Scope.Closeable
      readonly limit: Duration.Duration
      /** The client's, in which the transaction is. */
      readonly service: SqlClient.SqlClient["transactionService"]
    }
  ) {
    this.#connection = connection
    this.#scope = scope
    this.#limit = limit
    this.#service = service
    this.connection = {
      execute: (sql, params, transform) =>
        this.#send(sql, this.#asEnd(sql, (text) => connection.execute(text, params, transform))),
      executeRaw: (sql, params) => this.#send(sql, this.#asEnd(sql, (text) => connection.executeRaw(text, params))),
      executeValues: (sql, params) => this.#send(sql, connection.executeValues(sql, params)),
      executeValuesUnprepared: (sql, params) => this.#send(sql, connection.executeValuesUnprepared(sql, params)),
      executeUnprepared: (sql, params, transform) =>
        this.#send(sql, this.#asEnd(sql, (text) => connection.executeUnprepared(text, params, transform))),
      executeStream: (sql, params, transform) =>
        Stream.unwrap(this.#admit(sql, (run) => this.#kept(run, connection.executeStream(sql, params, transform))))
    }
  }

  /**
   * Sends a statement. If a run has left something in the session, the statement that ends the transaction begins another,
   * in which the session is reset. Otherwise a pooler in transaction mode could give the session to another client first.
   */
  #asEnd<A>(sql: string, send: (text: string) => Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    return isEnd(sql)
      ? Effect.suspend(() => send(this.left.session && !this.isUseless ? `${sql} AND CHAIN` : sql))
      : send(sql)
  }

  /** Checks a handler's statement and sends it if allowed; always sends Sluice's own. */
  #admit<A>(sql: string, send: (run: Run | undefined) => Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    return Effect.withFiber((fiber) => {
      if (this.#closed) return Effect.fail(isOver())
      const run = fiber.getRef(CurrentRun)
      const refused = run?.admit(sql, fiber)
      if (refused !== undefined) return Effect.die(refused)
      return this.#streams.size === 0 ? send(run) : Effect.andThen(this.#closeLeft, send(run))
    })
  }

  /** Notes that a stream is open, until it ends. */
  #kept<A>(run: Run | undefined, stream: Stream.Stream<A, SqlError>): Effect.Effect<Stream.Stream<A, SqlError>> {
    if (run === undefined) return Effect.succeed(stream)
    return Effect.map(Scope.make(), (scope) => {
      const open = this.#streams.get(run) ?? new Set()
      this.#streams.set(run, open.add(scope))
      const close = Effect.suspend(() => {
        open.delete(scope)
        if (open.size === 0) this.#streams.delete(run)
        return Scope.close(scope, Exit.void)
      })
      return Stream.ensuring(Stream.fromPull(Scope.provide(Stream.toPull(stream), scope)), close)
    })
  }

  /** Closes the streams that runs have left open, in a fiber that outlives them: the next statement would wait for it. */
  readonly #closeLeft = Effect.suspend(() => {
    const left = [...this.#streams].filter(([run]) => run.ended)
    for (const [run] of left) this.#streams.delete(run)
    return Effect.forEach(left.flatMap(([, open]) => [...open]), (scope) => Scope.close(scope, Exit.void), {
      discard: true
    })
  })

  #send<A>(sql: string, statement: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    return this.#admit(sql, (run) => {
      const isOwn = run === undefined
      this.#inFlight++
      run?.began()
      const counted = Effect.ensuring(
        Effect.tapError(
          isOwn ? within(this.#limit, sql.trimStart().split(/\s/, 1)[0] ?? sql)(statement) : statement,
          (error) => Effect.sync(() => this.#noteLost(error))
        ),
        Effect.sync(() => {
          this.#inFlight--
          run?.finished()
        })
      )
      // The connection is released here and not when the transaction's effect ends: what waits for the commit may need a
      // connection, and the pool may have no other.
      return isOwn && isEnd(sql) ? Effect.ensuring(counted, this.close) : counted
    })
  }

  /**
   * A run may have the session forget what the client has prepared, also the statements that end a transaction. Then the
   * transaction is still open, and no statement of the client works any more.
   */
  #noteLost(error: SqlError): void {
    if (codeOf(error) === "26000") this.isUseless = true
  }

  /** Notes that a statement may have left settings in the transaction and the session, for example by a trigger. */
  noteAll(): void {
    this.left.transaction = true
    this.left.session = true
  }

  /** Ends a statement that cannot be interrupted, by closing its connection. */
  readonly abandon: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#inFlight === 0 || this.#closed) return Effect.void
    this.#closed = true
    return Scope.close(this.#scope, Exit.void)
  })

  /** Resets the connection and returns it to the pool. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#closed) return Effect.void
    this.#closed = true
    const restore = this.isUseless ? this.#terminate : this.left.session ? this.#reset : Effect.void
    return Effect.andThen(restore, Scope.close(this.#scope, Exit.void))
  })

  #own(sql: string): Effect.Effect<ReadonlyArray<Record<string, unknown>>, SqlError> {
    return within(this.#limit, sql)(this.#connection.executeUnprepared(sql, [], undefined))
  }

  /**
   * Makes the server close the connection, so the pool drops it. In an aborted transaction it would refuse to. Where the
   * role has no right to end its own session, the server ends it because it is idle.
   */
  readonly #terminate = Effect.suspend(() => this.#renew).pipe(
    Effect.andThen(
      Effect.suspend(() =>
        Effect.ignore(this.#own("select pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())"))
      )
    ),
    Effect.andThen(Effect.suspend(() => this.#renew)),
    Effect.andThen(Effect.suspend(() => this.#own("set idle_session_timeout = 1"))),
    Effect.andThen(Effect.suspend(() => this.#own("commit"))),
    Effect.andThen(
      Effect.suspend(() =>
        Effect.andThen(Effect.sleep(idle), this.#own("select 1")).pipe(Effect.repeat({ times: mostIdle }))
      )
    ),
    Effect.ignore
  )

  /**
   * The same as `discard all`, but keeps the statements that the client has prepared and tracks. The next user of the
   * connection finds it in its initial state. A block is one round trip. It is run in the transaction that `#asEnd` began,
   * or in none.
   */
  readonly #reset = Effect.suspend(() => this.#own(reset)).pipe(
    Effect.andThen(Effect.suspend(() => this.#own("commit"))),
    Effect.asVoid,
    Effect.catch(() => this.#terminate)
  )

  /** Replaces a transaction that may be aborted by another one, so that a pooler does not give the session to others. */
  readonly #renew = Effect.suspend(() => Effect.ignore(this.#own("rollback and chain")))

  readonly #isWithin = (context: Context.Context<never>): boolean => {
    const transaction = Context.getOption(context, this.#service)
    return Option.isSome(transaction) && transaction.value[0] === this.connection
  }

  /** Watches a handler's run in the transaction. */
  watch(rule: Run["rule"], outer: Run | undefined): Run {
    return new Run(rule, { left: this.left, outer, isWithin: this.#isWithin })
  }
}

/** The lease of the transaction that surrounds a fiber, if the transaction is Sluice's own. */
const CurrentLease = Context.Reference<Lease | undefined>("effect-sluice/store/pg/CurrentLease", {
  defaultValue: () => undefined
})

/** Sends Sluice's own statements by another connection than that of the transaction that surrounds the fiber. */
export const aside = (sql: SqlClient.SqlClient) => <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.updateContext(effect, (context: Context.Context<never>) => Context.omit(sql.transactionService)(context))

/** The depth that makes a client begin a transaction on a given connection, not a savepoint. */
const outermost = -1

/**
 * Runs a verb outside of a handlers' transaction that has ended. What waits for its commit (`sql.afterCommit`) runs where
 * the client was given the connection, which is the pool's again.
 */
export const leavingEnded =
  (sql: SqlClient.SqlClient) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) =>
      Context.getOrUndefined(fiber.context, sql.transactionService)?.[1] === outermost
        ? effect.pipe(
          // no verb requires a transaction, so what is left is all that it requires
          Effect.updateContext((context: Context.Context<R>) =>
            Context.omit(sql.transactionService)(context) as Context.Context<R>
          ),
          Effect.provideService(SqlClient.BeginTransaction, undefined),
          Effect.provideService(CurrentLease, undefined),
          Effect.provideService(CurrentRun, undefined)
        )
        : effect
    )

/** Where a transaction of Sluice's runs. */
export interface Place {
  /** Its connection, unless the surrounding transaction is the caller's. */
  readonly lease: Lease | undefined
  /** Whether it is a savepoint of a surrounding transaction. */
  readonly isNested: boolean
}

/** How a transaction begins. */
export type Begin = "begin isolation level read committed" | "begin isolation level read committed read write"

/**
 * Runs an effect in a transaction of a client, at the isolation level that Sluice's statements are written for, regardless
 * of the database's default. Within a transaction it is a savepoint of that one.
 *
 * The client gets the connection as that of a transaction one level outside the outermost. It then begins, commits and rolls
 * back like for its own transaction, and savepoints of handlers nest in it.
 */
export const inTransaction = <A, E, R>(
  sql: SqlClient.SqlClient,
  options: Options,
  work: Work<A, E, R>
): Effect.Effect<A, E | SqlError, R> => Effect.uninterruptibleMask((restore) => transact(sql, options, work, restore))

interface Options {
  readonly begin: Begin
  readonly limit: Duration.Duration
}

type Work<A, E, R> = (place: Place) => Effect.Effect<A, E, R>

const transact = Effect.fnUntraced(function*<A, E, R>(
  sql: SqlClient.SqlClient,
  options: Options,
  work: Work<A, E, R>,
  restore: Restore
): Effect.fn.Return<A, E | SqlError, R> {
  const surrounding = yield* Effect.serviceOption(sql.transactionService)
  if (Option.isSome(surrounding)) {
    const lease = yield* CurrentLease
    const isSluices = lease !== undefined && surrounding.value[0] === lease.connection
    return yield* restore(sql.withTransaction(work({ lease: isSluices ? lease : undefined, isNested: true })))
  }
  const scope = yield* Scope.make()
  const connection = yield* restore(within(options.limit, "connect")(Scope.provide(sql.reserve, scope))).pipe(
    Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
  )
  const lease = new Lease(connection, { scope, limit: options.limit, service: sql.transactionService })
  const inner = Effect.suspend(() => work({ lease, isNested: false })).pipe(
    // only for this transaction, not for another client's that a handler begins
    Effect.provideService(SqlClient.BeginTransaction, undefined),
    Effect.provideService(CurrentLease, lease)
  )
  return yield* restore(sql.withTransaction(inner)).pipe(
    Effect.provideService(sql.transactionService, [lease.connection, outermost]),
    Effect.provideService(SqlClient.BeginTransaction, options.begin),
    Effect.ensuring(lease.close)
  )
})
