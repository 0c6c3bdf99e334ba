/**
 * The transaction that handlers run in: how it begins, what the drain is shown of it, and what it is put back to before its
 * settlement.
 */
import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Transaction, Watch } from "../../ChunkStore.ts"
import type { Lease } from "./connection.ts"
import { asStoreError } from "./errors.ts"
import type { Tables } from "./tables.ts"
import { type Run, unwatched } from "./watch.ts"

// for a machine that is busy
const slack = 5000

const longestMillis = 2_147_483_647

/** What a transaction found when it began, and what it is put back to before its settlement. */
export interface Began {
  readonly role: string
  readonly session_authorization: string
  readonly search_path: string
  readonly idle: string
  readonly lock: string
  readonly mark: string | null
  /** How long the server lets the transaction take, as `500ms`, or `0`; null before Postgres 17. */
  readonly transaction_timeout: string | null
  readonly isolation: string
}

/**
 * The begin of a handlers' transaction, in one statement:
 *
 * - A worker that is frozen or cut off in the middle of its handlers holds their locks until the server notices, which by
 *   itself it may never do; others would wait for them until their own time is over, and be charged for it.
 * - The transaction gets a mark. A handler that ends it, by ways that its statements do not show, takes the mark away.
 * - What handlers may change and the settlement relies on is read.
 */
export const beginHandling = ({ sql }: Tables, mark: string, idle: Duration.Duration | undefined) => {
  const limit = idle === undefined
    ? sql`null`
    : sql`pg_catalog.set_config('idle_in_transaction_session_timeout', ${
      String(Math.min(Math.ceil(Duration.toMillis(idle)) + slack, longestMillis))
    }, true)`
  // a subquery with an offset is not merged: the settings are read before they are set
  return sql<Began>`
    select before.*, ${limit} as limited, pg_catalog.set_config('sluice.transaction', ${mark}, true) as marked
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
}

/**
 * Puts back what handlers may have changed and Sluice's own statements rely on. In a transaction of Sluice's own it is put
 * back for the session, because what a handler set for the session would be back after the commit. The role goes after the
 * user, which resets it.
 */
export const putBack = ({ sql }: Tables, began: Began, isNested: boolean) =>
  sql`select pg_catalog.set_config('session_authorization', ${began.session_authorization}, ${isNested}),
    pg_catalog.set_config('role', ${began.role}, ${isNested}),
    pg_catalog.set_config('search_path', ${began.search_path}, ${isNested})`

/** Puts back what Sluice itself set, in a transaction that goes on: the caller's. */
export const putOwnBack = ({ sql }: Tables, began: Began) =>
  sql`select pg_catalog.set_config('idle_in_transaction_session_timeout', ${began.idle}, true),
    pg_catalog.set_config('lock_timeout', ${began.lock}, true),
    pg_catalog.set_config('sluice.transaction', ${began.mark ?? ""}, true)`

/** Milliseconds that a time setting of the server stands for, as it shows them; none when there is no limit. */
const millisOf = (setting: string | null): number | undefined => {
  const [, amount = "0", unit = "ms"] = /^(\d+)(us|ms|s|min|h|d)?$/.exec(setting ?? "") ?? []
  const factor = { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }[unit] ?? 1
  return amount === "0" ? undefined : Number(amount) * factor
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

/** A transaction as the drain sees it. */
export const transactionOf = (
  { sql }: Tables,
  lease: Lease | undefined,
  began: Began,
  outer: Run | undefined
): Transaction => {
  const limit = millisOf(began.transaction_timeout)
  return {
    // in a transaction of the caller's nothing is seen of what is sent: then it is taken to have been
    watch: (rule) => lease?.watch(rule, outer) ?? new Unseen(),
    isSound: unwatched(sql`select 1`).pipe(
      asStoreError,
      Effect.as(true),
      Effect.catchIf((error) => !error.transient, () => Effect.succeed(false))
    ),
    abandon: lease?.abandon ?? Effect.void,
    longest: limit === undefined ? longestOpen : Duration.min(longestOpen, Duration.millis(limit / 2))
  }
}

/** Keeps what the handlers failed with apart from what the database fails the transaction with. */
export class RolledBack<E> {
  readonly _tag = "RolledBack"
  readonly cause: Cause.Cause<E>
  constructor(cause: Cause.Cause<E>) {
    this.cause = cause
  }
}
