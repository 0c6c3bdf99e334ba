/**
 * Tells a silent connection from a handler that hangs. Both leave a statement without an answer: a firewall may have dropped
 * the connection, or the handler waits where it cannot be interrupted.
 */
import * as Effect from "effect/Effect"
import type { ChunkStoreError } from "../../ChunkStore.ts"
import { isEmbedded } from "./client.ts"
import { aside } from "./connection.ts"
import type { Tables } from "./tables.ts"

/** The session and the begin of a transaction, by which the server shows it to other sessions. */
export interface Backend {
  readonly pid: number
  /** In seconds since 1970, as text. */
  readonly since: string
}

/** What is selected of the transaction under way. */
export const backend =
  "pg_catalog.pg_backend_pid() as pid, extract(epoch from pg_catalog.now())::pg_catalog.text as since"

/**
 * Whether the server carries out no statement of this transaction: then it has answered, or never had the statement. It asks
 * by another connection. An embedded database has no other one, and no network that could be silent.
 *
 * If the transaction is still open, it is ended: the server would keep it, with its locks, until its limit for idle time. The
 * begin of the transaction is compared because a pooler may have given the session to another client.
 */
export const isSilent = ({ client, sql }: Tables, { pid, since }: Backend): Effect.Effect<boolean, ChunkStoreError> =>
  isEmbedded(sql) ? Effect.succeed(false) : client.statement(sql<{ state: string | null }>`
    select state, case when state like 'idle in transaction%' then pg_catalog.pg_terminate_backend(pid) end
    from pg_catalog.pg_stat_activity
    where pid = ${pid} and extract(epoch from xact_start)::pg_catalog.text = ${since}`).pipe(
    Effect.map(([found]) => found === undefined || found.state?.startsWith("idle") === true),
    aside(sql)
  )
