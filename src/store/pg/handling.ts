/**
 * The transaction that handlers run in: its begin, what the drain sees of it, and the settings that are restored before its
 * settlement.
 */
import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type { Recording, Transaction, Watch } from "../../ChunkStore.ts"
import type { Insert } from "../../Declaration.ts"
import * as Kind from "../../Kind.ts"
import { afterCommit, type Commit } from "./afterCommit.ts"
import type { Lease } from "./connection.ts"
import { asStoreError } from "./errors.ts"
import { type Backend, backend, isSilent } from "./silence.ts"
import type { Tables } from "./tables.ts"
import { type Run, unwatched } from "./watch.ts"

// tolerance for a busy machine
const slack = 5000

const longestMillis = 2_147_483_647

/** The settings at the transaction's begin, which are restored before its settlement. */
export interface Began extends Backend {
  readonly role: string
  readonly session_authorization: string
  readonly search_path: string
  readonly idle: string
  readonly lock: string
  readonly mark: string | null
  /** The server's limit for the transaction, like `500ms`, or `0`; null before Postgres 17. */
  readonly transaction_timeout: string | null
  readonly isolation: string
  /** Whether the handlers may run: see {@link mayRun}. */
  readonly may: boolean
}

/** Whether a call is new, or its chunks are held by this token, and no kind of its outputs is paused. */
const mayRun = (schema: string): string =>
  `(
        not exists (select from ${schema}.service_call where call_id = $3)
        or exists (select from ${schema}.chunk_queue where call_id = $3 and lease_token = $4::pg_catalog.uuid)
      ) and not exists (
        select from ${schema}.pause where namespace in ('${Kind.wildcard}', $5)
          and (schema_identity = '${Kind.wildcard}' or schema_identity = any($6::pg_catalog.text[]))
      )`

/**
 * Begins a handlers' transaction, in one statement:
 *
 * - It sets a limit for idle time. A worker that is frozen or cut off while its handlers run holds their locks until the
 *   server notices, which may never happen without a limit. Other workers would wait for the locks until their own time
 *   limit, and be charged for it.
 * - It sets a mark. A handler that ends the transaction in a way that its statements do not show removes the mark.
 * - It reads the settings that handlers may change and the settlement relies on.
 * - Of a call that is to be recorded, it tells whether its handlers may run.
 *
 * A subquery with an offset is not merged, so the settings are read before they are set. The text is built once, because the
 * handlers of every batch wait for it.
 */
const beginText = (may: string): string => `
    select before.*, pg_catalog.set_config('sluice.transaction', $1, true) as marked,
      pg_catalog.set_config('idle_in_transaction_session_timeout', coalesce($2, before.idle), true) as limited,
      ${backend}, ${may} as may
    from (
      select pg_catalog.current_setting('role') as role,
        pg_catalog.current_setting('session_authorization') as session_authorization,
        pg_catalog.current_setting('search_path') as search_path,
        pg_catalog.current_setting('idle_in_transaction_session_timeout') as idle,
        pg_catalog.current_setting('lock_timeout') as lock,
        pg_catalog.current_setting('sluice.transaction', true) as mark,
        pg_catalog.current_setting('transaction_isolation') as isolation,
        pg_catalog.current_setting('transaction_timeout', true) as transaction_timeout
      offset 0
    ) before`

/** What a handlers' transaction begins with. */
export interface Beginning {
  readonly mark: string
  readonly token: string
  /** How long it may be idle. */
  readonly idle: Duration.Duration | undefined
  /** The call that is to be recorded at its end. */
  readonly call: Recording | undefined
}

/** Begins a handlers' transaction: see {@link beginText}. */
export const beginHandling = ({ schema, sql }: Tables) => {
  const plain = beginText("true")
  const asking = beginText(mayRun(schema))
  return ({ call, idle, mark, token }: Beginning) => {
    const limit = idle === undefined
      ? null
      : String(Math.min(Math.ceil(Duration.toMillis(idle)) + slack, longestMillis))
    if (call === undefined) return sql.unsafe<Began>(plain, [mark, limit])
    const { callId, namespace, outputs } = call
    const identities = [...new Set(outputs.map((output) => output.schema))]
    return sql.unsafe<Began>(asking, [mark, limit, callId, token, namespace, identities])
  }
}

/**
 * Restores the settings that handlers may have changed and Sluice's own statements rely on. In Sluice's own transaction it
 * restores them for the session, because a session setting of a handler would return after the commit. The role follows the
 * user, because setting the user resets the role. After a transaction that was rolled back, PGlite shows both as the empty
 * text, which it does not accept.
 *
 * It compares nothing: until the search path is restored, an operator may be one of the handler's schema.
 */
export const putBack = ({ sql }: Tables, began: Began, isNested: boolean) =>
  sql`select pg_catalog.set_config('session_authorization',
      coalesce(${began.session_authorization || null}::pg_catalog.text, session_user::pg_catalog.text), ${isNested}),
    pg_catalog.set_config('role', ${began.role || "none"}, ${isNested}),
    pg_catalog.set_config('search_path', ${began.search_path}, ${isNested})`

/** Restores the settings that Sluice itself set, in a caller's transaction, which continues. */
export const putOwnBack = ({ sql }: Tables, began: Began) =>
  sql`select pg_catalog.set_config('idle_in_transaction_session_timeout', ${began.idle}, true),
    pg_catalog.set_config('lock_timeout', ${began.lock}, true),
    pg_catalog.set_config('sluice.transaction', ${began.mark ?? ""}, true)`

/** The milliseconds of a time setting in the server's notation; undefined without a limit. */
const millisOf = (setting: string | null): number | undefined => {
  const [, amount = "0", unit = "ms"] = /^(\d+)(us|ms|s|min|h|d)?$/.exec(setting ?? "") ?? []
  const factor = { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }[unit] ?? 1
  return amount === "0" ? undefined : Number(amount) * factor
}

/** A run in a caller's transaction, where statements are not observed. */
class Unseen implements Watch {
  readonly sent = true
  readonly refusal = undefined
  of<A, E, R>(run: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return run
  }
  end(): void {}
}

/** Limits how long a batch of slow handlers holds its locks: this time, plus that of the last run. */
const longestOpen = Duration.seconds(1)

/** The transaction in the drain's form. */
export const transactionOf = (
  t: Tables,
  insert: Insert,
  { began, first, lease, outer }: {
    readonly lease: Lease | undefined
    readonly began: Began
    readonly outer: Run | undefined
    readonly first: Commit["first"]
  }
): Transaction => {
  const { sql } = t
  const limit = millisOf(began.transaction_timeout)
  return {
    // statements in a caller's transaction are not observed: a run there counts as having sent some
    watch: (rule) => lease?.watch(rule, outer) ?? new Unseen(),
    isSound: unwatched(sql`select 1`).pipe(
      asStoreError,
      Effect.as(true),
      Effect.catchIf((error) => !error.transient, () => Effect.succeed(false))
    ),
    insert,
    afterCommit: (effect) => first(afterCommit(sql, effect)),
    abandon: lease?.abandon ?? Effect.void,
    isSilent: lease === undefined ? Effect.succeed(false) : isSilent(t, began),
    longest: limit === undefined ? longestOpen : Duration.min(longestOpen, Duration.millis(limit / 2))
  }
}

/**
 * Distinguishes the handlers' failure from the database's failure of the transaction. The client compares the failure of
 * every transaction with itself. By its contents that would read all fields of handlers' errors, which may throw, and all of
 * the batch.
 */
export class RolledBack<E> {
  readonly _tag = "RolledBack"
  readonly cause: Cause.Cause<E>
  constructor(cause: Cause.Cause<E>) {
    this.cause = cause
    Equal.byReferenceUnsafe(this)
  }
}
