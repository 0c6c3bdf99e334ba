/**
 * The statement at the end of a handlers' transaction whose call is not recorded yet, for a call with one output: most calls
 * are of this kind, and their callers wait for the answer. It does what `recordHeld.ts` does for a call with several, without
 * joins and without the queue, so that the server starts a third of the plan. Its text is built once.
 */
import type { Persisted } from "../../ChunkStore.ts"
import type { Given } from "./given.ts"
import { callValuesOf, opened, recordedIf, saysMore } from "./recordStatements.ts"
import type { Tables } from "./tables.ts"

/** How long the statement waits for a lock at the end of a handlers' transaction. */
export const longestWait = "2s"

/** What of the call is persisted in the transaction that records it. */
export interface Done {
  /** The transaction's mark. In a session without it, the statement does nothing. */
  readonly mark: string
  readonly persisted: ReadonlyArray<Persisted>
}

/** The answer of the statements that end such a transaction. */
export interface RecordedDone {
  /** Whether the transaction is the one that was begun. If not, the statement did nothing. */
  readonly marked: boolean
  /** Of each output, in their order. Null if the call was recorded before, or its ordering key is not free. */
  readonly seqs: ReadonlyArray<bigint> | null
  /** Whether a subscription to ends of calls exists. */
  readonly ends: boolean
}

/** Whether the statement can record this call. */
export const isOneDone = (one: Given, { persisted }: Done): boolean =>
  one.call.outputs.length === 1 && persisted.length === 1 && one.call.orderingKey === undefined && !saysMore(one)

/** Only `recorded` is read of the parts that write: the server runs the others in their order, in which all verbs lock. */
const textOf = ({ schema }: Tables): string => `
  with mark as materialized (
    select pg_catalog.set_config('lock_timeout', '${longestWait}', true)
    where pg_catalog.current_setting('sluice.transaction', true) operator(pg_catalog.=) $15
  ), recorded as (${recordedIf(schema, "mark")}
    returning call_id, namespace
  ), opened as (
    ${opened(schema)}
  ), numbered as materialized (
    select pg_catalog.nextval('${schema}.chunk_seq') as seq, call_id, namespace from recorded
  ), kept as (
    insert into ${schema}.persisted_chunk (
      seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects
    )
    select seq, call_id, $16, $17, namespace, $18::int, $19, $20::int, $21::pg_catalog.jsonb from numbered
  )
  select exists (select from mark) as marked, (select pg_catalog.array_agg(seq) from numbered) as seqs,
    exists (select from ${schema}.call_subscription) as ends`

/** Records a call that is {@link isOneDone}. */
export const recordOneDone = (t: Tables) => {
  const text = textOf(t)
  return (one: Given, { mark, persisted }: Done) => {
    const { handler, handlerVersion, objects } = persisted[0]!
    const { part = "", schema, version } = one.call.outputs[0]!
    return t.sql.unsafe<RecordedDone>(text, [
      ...callValuesOf(one),
      mark,
      schema,
      part,
      version,
      handler,
      handlerVersion,
      JSON.stringify(objects)
    ])
  }
}
