/**
 * Runs the statements of migrations without blocking recorders and workers.
 *
 * A statement that waits for a lock makes all later requests for that lock wait, those of recording too. So each statement
 * runs in its own transaction and gives up after a quarter of a second, to be retried later. It either commits or leaves no
 * trace, and an interrupted migration runs again from its first statement. `create index concurrently` blocks no writer, and
 * may wait without a limit.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { codeOf, wordsOf } from "./errors.ts"
import type { Session } from "./session.ts"
import { indexMadeBy, isConcurrent } from "./statements.ts"

/** A migration could not be applied. Earlier statements stay committed; the next run continues from there. */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  /** The migration's name, like `0001_tables`; empty if none in particular. */
  migration: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `${this.migration === "" ? "Sluice's tables" : `migration ${this.migration}`}: ${this.reason}`
  }
}

/** How long a statement, and the requests behind it, may wait for a lock, in milliseconds. */
const lockTimeout = 250
/** Every n-th attempt waits longer, if an autovacuum may hold the lock: see {@link once}. */
const triesToMakeWay = 4
/** The pause before the next attempt, in milliseconds: meanwhile no other session waits. */
const [shortestPause, longestPause] = [500, 5000]
/** After how many milliseconds of waiting the first log message appears, and the interval of later ones. */
const [firstWord, nextWord] = [5000, 30_000]
/** How often to check what a statement that may wait is waiting for, in milliseconds. */
const lookEvery = 1000

/** Where statements run, and how to find out what they wait for. */
export interface Site {
  readonly session: Session
  /** The pool, for queries while the session is busy. Absent if no other session can hold a lock. */
  readonly sql: SqlClient | undefined
  /** How long to wait for other sessions, in milliseconds. */
  readonly wait: number
  /** Fails when the connection with the guard's lock is lost, and other processes could migrate. */
  readonly guarded: Effect.Effect<unknown, SqlError>
}

/** A session that blocks a statement. */
interface Blocker {
  readonly pid: number
  /** The server's type of the session; null if this role may not see it. */
  readonly type: string | null
  readonly role: string | null
  readonly application: string | null
  readonly state: string | null
  readonly seconds: number | null
  readonly query: string | null
}

/** The blockers of a statement that waits now. It is found by the beginning of its text, which the server shows. */
const blockersOf = (sql: SqlClient, statement: string) =>
  sql<Blocker>`
    select distinct blocking.pid, b.backend_type as type, b.usename::pg_catalog.text as role, b.application_name as application, b.state,
      pg_catalog.round(extract(epoch from pg_catalog.now() - b.xact_start))::int as seconds,
      pg_catalog.left(b.query, 120) as query
    from pg_catalog.pg_stat_activity w
    cross join lateral pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) blocking(pid)
    left join pg_catalog.pg_stat_activity b on b.pid = blocking.pid
    where w.datname = pg_catalog.current_database() and w.wait_event_type = 'Lock' and w.query <> ''
      and pg_catalog.starts_with(${statement}, w.query) and w.pid <> pg_catalog.pg_backend_pid()
    limit 5`.unprepared.pipe(Effect.orElseSucceed((): ReadonlyArray<Blocker> => []))

const inWords = ({ application, pid, query, role, seconds, state }: Blocker): string =>
  pid === 0
    ? "a prepared transaction (see pg_prepared_xacts)"
    : `session ${pid} (role ${role ?? "unknown"}, ${application === "" ? "no name" : application ?? "no name"}, ` +
      `${state ?? "its state cannot be seen"}${seconds === null ? "" : `, in its transaction for ${seconds} s`}): ` +
      `${(query ?? "").replaceAll(/\s+/g, " ")}`

const named = (blockers: ReadonlyArray<Blocker>): string =>
  blockers.length === 0 ? "others that hold it now and then" : blockers.map(inWords).join("; ")

const first = (statement: string): string => statement.split("\n", 1)[0]?.slice(0, 80) ?? ""

/** Logs what is being waited for: after some seconds, and then at intervals. */
const makeTeller = () => {
  let due = firstWord
  return (waited: number, text: () => string) => {
    if (waited < due) return Effect.void
    due = waited + nextWord
    return Effect.logWarning(text())
  }
}

const failed = (migration: string, reason: string) => Effect.fail(new MigrationFailed({ migration, reason }))

const passes = (error: SqlError): boolean => ["55P03", "40P01"].includes(codeOf(error) ?? "")

/**
 * One attempt, in its own transaction. The search path excludes functions that others created. An autovacuum gives way only
 * to a session that has waited for the server's deadlock timeout, usually a second.
 */
const once = (session: Session, statement: string, untilItMakesWay: boolean) =>
  session.run("begin isolation level read committed read write").pipe(
    Effect.andThen(session.run(
      `select pg_catalog.set_config('lock_timeout', ($1::int + case when $2 then setting::int else 0 end)::pg_catalog.text, true),
        pg_catalog.set_config('statement_timeout', '0', true),
        pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)
      from pg_catalog.pg_settings where name = 'deadlock_timeout'`,
      [lockTimeout, untilItMakesWay]
    )),
    Effect.andThen(session.runLong(statement)),
    Effect.tap(() => session.run("commit")),
    Effect.onError(() => Effect.ignore(session.run("rollback")))
  )

const mayBeAutovacuum = ({ type }: Blocker): boolean => type === null || type === "autovacuum worker"

/** Runs a statement that may block other sessions: each attempt waits only briefly. */
const runBriefly = Effect.fnUntraced(function*({ session, sql, wait }: Site, migration: string, statement: string) {
  const tell = makeTeller()
  let pause = shortestPause
  let waited = 0
  let blockers: ReadonlyArray<Blocker> = []
  const look = sql === undefined ? Effect.void : Effect.delay(
    Effect.flatMap(blockersOf(sql, statement), (found) =>
      Effect.sync(() => {
        if (found.length > 0) blockers = found
      })),
    "120 millis"
  )
  for (let tries = 1;; tries++) {
    const untilItMakesWay = tries % triesToMakeWay === 0 && blockers.some(mayBeAutovacuum)
    // a query after the statement's end would find no blockers
    const looking = yield* Effect.forkChild(look)
    const passing = yield* once(session, statement, untilItMakesWay).pipe(
      Effect.as(undefined),
      Effect.catchIf(passes, (error) => Effect.succeed(error)),
      Effect.ensuring(Effect.sync(() => looking.interruptUnsafe()))
    )
    if (passing === undefined) return
    const what = () => `"${first(statement)}" waits for a lock, held by ${named(blockers)}`
    if (waited >= wait) {
      return yield* failed(migration, `${what()}. Nothing of it is done; run it again, or end that session`)
    }
    yield* tell(waited, () => `migration ${migration}: ${what()}. It is tried again; recording does not wait`)
    yield* Effect.sleep(pause)
    waited += pause
    pause = Math.min(longestPause, pause * 1.5)
  }
})

/** Runs a statement that blocks no other session. It is cancelled only when it has waited for the same sessions for long. */
const runPatiently = Effect.fnUntraced(function*({ session, sql, wait }: Site, migration: string, statement: string) {
  if (sql === undefined) return yield* Effect.asVoid(session.runLong(statement))
  const tell = makeTeller()
  let waited = 0
  const watch = Effect.gen(function*() {
    while (true) {
      yield* Effect.sleep(lookEvery)
      const blockers = yield* blockersOf(sql, statement)
      waited = blockers.length === 0 ? 0 : waited + lookEvery
      const what = () => `"${first(statement)}" waits for the end of ${named(blockers)}`
      if (waited > wait) {
        return yield* failed(migration, `${what()}. Run it again when that has ended: it begins this statement anew`)
      }
      yield* tell(waited, () => `migration ${migration}: ${what()}. No other session waits for it`)
    }
  })
  return yield* Effect.raceFirst(Effect.asVoid(session.runLong(statement)), watch)
})

/**
 * The state of an index, and the sessions that may be working on its table, without the server's own vacuum, which gives
 * way.
 */
const indexState = (session: Session, schema: string, index: string) =>
  Effect.map(
    session.run<{ valid: boolean; workers: ReadonlyArray<number> }>(
      `select i.indisvalid as valid, array(
        select l.pid from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
        where l.relation = i.indrelid and l.mode = 'ShareUpdateExclusiveLock' and l.granted
          and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
          and l.pid <> pg_catalog.pg_backend_pid() and a.backend_type is distinct from 'autovacuum worker'
      ) as workers
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      join pg_catalog.pg_index i on i.indexrelid = c.oid
      where n.nspname = $1 and c.relname = $2`,
      [schema, index]
    ),
    ([state]) => state
  )

/**
 * Creates an index beside writers. An interrupted creation leaves an invalid index, which `if not exists` would keep. So it
 * is dropped and created again, unless the server is still working on it.
 */
const makeIndex = Effect.fnUntraced(function*(
  site: Site,
  { index, migration, schema, statement }: {
    readonly index: string
    readonly migration: string
    readonly schema: string
    readonly statement: string
  }
) {
  const tell = makeTeller()
  let waited = 0
  while (true) {
    let state = yield* indexState(site.session, schema, index)
    // Locks are read live, but the index as of the statement's start: a session may have finished in between, so read again.
    if (state?.valid === false && state.workers.length === 0) state = yield* indexState(site.session, schema, index)
    if (state?.valid === true) return
    const workers = state?.workers ?? []
    if (workers.length > 0) {
      const what = () =>
        `session ${workers.join(", ")} is at work on the table of index ${index}, left by an earlier run`
      if (waited > site.wait) return yield* failed(migration, `${what()}; run it again when that has ended`)
      yield* tell(waited, () => `migration ${migration}: ${what()}; waiting for its end`)
      yield* Effect.sleep(lookEvery)
      waited += lookEvery
      continue
    }
    if (state !== undefined) {
      yield* runPatiently(site, migration, `drop index concurrently if exists "${schema}"."${index}"`)
    }
    // a deadlock with another session's change leaves an invalid index
    const isDone = yield* runPatiently(site, migration, statement).pipe(
      Effect.as(true),
      Effect.catchIf(
        (error) => error._tag === "SqlError" && passes(error) && waited <= site.wait,
        () => Effect.succeed(false)
      )
    )
    if (isDone) return
    waited += longestPause
    yield* Effect.sleep(shortestPause)
  }
})

/** Runs one statement of a migration. */
export const runStatement = (site: Site, schema: string, migration: string, statement: string) => {
  const index = indexMadeBy(statement)
  const running: Effect.Effect<void, MigrationFailed | SqlError> = !isConcurrent(statement)
    ? runBriefly(site, migration, statement)
    : index === undefined
    ? runPatiently(site, migration, statement)
    : makeIndex(site, { index, migration, schema, statement })
  return site.guarded.pipe(
    Effect.andThen(running),
    Effect.catchTag("SqlError", (error): Effect.Effect<never, SqlError | MigrationFailed> =>
      // an error without a code is not from the server: the connection is lost
      codeOf(error) === undefined ? Effect.fail(error) : failed(migration, reasonOf(error, statement)))
  )
}

const advice: Readonly<Record<string, string>> = {
  "42501":
    "; let a role run `sluice migrate` that owns the tables, or give what `sluice migrate --dry-run` prints to one",
  "25006": "; the server, or this role's sessions, are read-only",
  "55P03": "; a lock_timeout of this role, database or pooler ended it: migrate by a direct connection",
  "57014": "; a statement_timeout of this role, database or pooler ended it: migrate by a direct connection"
}

const reasonOf = (error: SqlError, statement: string): string => {
  const code = codeOf(error) ?? ""
  return `"${first(statement)}": ${wordsOf(error)} (${code})${advice[code] ?? ""}`
}

/** An arbitrary number of Sluice's; with the schema's hash it names the migration lock. */
const lockClass = 0x51ce

/** Checks that the guard's connection is alive, without a snapshot: see {@link guard}. */
export const isGuarding = (session: Session) => session.run("set local statement_timeout = 0")

/**
 * Waits until no other process migrates this schema, and blocks others from migrating until the scope closes. The lock lasts
 * as long as a transaction that does nothing else, so it also works through a pooler in transaction mode.
 *
 * `create index concurrently` waits for every transaction with a snapshot. So the lock is requested without waiting, in a
 * read committed transaction. A query's snapshot stays open until the next statement, so the last statement here is one that
 * needs no snapshot.
 */
export const guard = Effect.fnUntraced(function*(session: Session, schema: string, wait: number) {
  const tell = makeTeller()
  const begin = Effect.gen(function*() {
    yield* session.run("begin isolation level read committed")
    // the transaction is idle while statements run; if this process disappears, the server ends it after this time
    yield* session.run(
      `select pg_catalog.set_config(name, case name when 'transaction_timeout' then '0' else '2min' end, true)
      from pg_catalog.pg_settings where name in ('idle_in_transaction_session_timeout', 'transaction_timeout')`
    )
    const [row] = yield* session.run<{ held: boolean }>(
      `select pg_catalog.pg_try_advisory_xact_lock(${lockClass}, pg_catalog.hashtext($1)) as held`,
      [schema]
    )
    yield* isGuarding(session)
    return row?.held === true
  })
  const end = Effect.ignore(session.run("rollback"))
  yield* Effect.addFinalizer(() => end)
  let waited = 0
  while (!(yield* begin)) {
    yield* end
    const [other] = yield* session.run<{ pid: number }>(
      `select pid from pg_catalog.pg_locks
      where locktype = 'advisory' and classid = ${lockClass}::pg_catalog.oid and objid = pg_catalog.hashtext($1)::pg_catalog.oid and granted
        and database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())`,
      [schema]
    )
    const what = () => `another process is migrating (session ${other?.pid ?? "unknown"})`
    if (waited > wait) return yield* failed("", `${what()}, and has not ended in time: look at it, and run it again`)
    yield* tell(waited, () => `Sluice's tables: ${what()}; waiting for its end`)
    const pause = waited < 2000 ? 100 : lookEvery
    yield* Effect.sleep(pause)
    waited += pause
  }
  yield* Effect.forkScoped(Effect.ignore(Effect.forever(Effect.delay(isGuarding(session), "20 seconds"))))
})

/** Removes time limits from a session, for statements that take long. Not to be used through a pooler. */
export const free = (session: Session) =>
  session.run(
    `select pg_catalog.set_config(
      name, case name when 'default_transaction_read_only' then 'off' when 'search_path' then 'pg_catalog, pg_temp' else '0' end, false)
    from pg_catalog.pg_settings
    where name in ('lock_timeout', 'statement_timeout', 'transaction_timeout', 'default_transaction_read_only', 'search_path')`
  )
