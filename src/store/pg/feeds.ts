/**
 * What subscriptions read as a log: the lines of the ledger, or the ends of calls, as relations of one form.
 */
import * as DateTime from "effect/DateTime"
import type { Fragment } from "effect/sql/Statement"
import type { CallEnded } from "../../CallEnded.ts"
import type { Feed } from "../../EventLog.ts"
import { jsonObject } from "./json.ts"
import type { Tables } from "./tables.ts"

/**
 * The lines of a feed, to be named by an alias. `xmin` is the transaction of this cluster that wrote the line. The server
 * reads through the subquery: an index on (xact, seq) gives the order.
 */
export const linesOf = ({ callEnd, ledger, sql }: Tables, feed: Feed): Fragment =>
  feed === "objects"
    ? sql`(
        select xact, seq, call_id, schema_identity, part, namespace, handler, objects, persisted_at as at, null::int as persisted,
          null::int as dead, xmin
        from ${ledger}
      )`
    : sql`(
        select xact, seq, call_id, ''::pg_catalog.text as schema_identity, ''::pg_catalog.text as part, null::pg_catalog.text as namespace,
          ''::pg_catalog.text as handler, '[]'::pg_catalog.jsonb as objects, ended_at as at, persisted, dead, xmin
        from ${callEnd}
      )`

/** The condition for subscriptions `s` to a feed. */
export const isOf = ({ callSubscription, sql }: Tables, feed: Feed): Fragment => {
  const isToldEnds = sql`exists (select from ${callSubscription} k where k.name = s.name)`
  return feed === "calls" ? isToldEnds : sql`not ${isToldEnds}`
}

/** What is read of a line, and of its call. */
export interface FeedLine {
  readonly call_id: string
  readonly namespace: string | null
  readonly service: string | null
  readonly correlation_id: string | null
  readonly context: unknown
  /** Null for a line of the ledger. */
  readonly persisted: number | null
  readonly dead: number | null
  /** The server's ISO 8601 text. */
  readonly at: string
}

/** The end of a call, if the line is one. */
export const toEnded = (row: FeedLine): CallEnded | undefined =>
  row.persisted === null ? undefined : {
    callId: row.call_id,
    namespace: row.namespace ?? "",
    service: row.service ?? "",
    correlationId: row.correlation_id ?? row.call_id,
    context: jsonObject(row.context),
    persisted: row.persisted,
    dead: row.dead ?? 0,
    endedAt: DateTime.toUtc(DateTime.makeUnsafe(row.at))
  }
