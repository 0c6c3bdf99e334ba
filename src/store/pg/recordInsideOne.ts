/**
 * The statement of the verb `recordInside` for a call with one output that becomes one row: most calls are of this kind, and
 * their callers wait for the answer. It does what the statement for many does, without matching rows to outputs, so that the
 * server starts a third of the plan. Its text is built once for each compiled declaration.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { DomainObject } from "../../DomainObject.ts"
import type { RecordInsideRequest } from "../../Inside.ts"
import * as Kind from "../../Kind.ts"
import { type Compiled, identifier } from "./declared.ts"
import type { Given } from "./given.ts"
import { longestId } from "./insideStatement.ts"
import { callValuesOf, opened, recordedIf, saysMore } from "./recordStatements.ts"
import type { Tables } from "./tables.ts"

/** Whether the statement can record this call and make its row. */
export const isOne = (one: Given, { elements }: Compiled): boolean =>
  one.call.outputs.length === 1 && elements === "" && !saysMore(one)

/**
 * Records the call, unless it was recorded before or its kind is paused: `limited` has no row then. The limit for waiting
 * at locks is set before the first row is written. If a trigger keeps the row from being written, `exact` fails.
 */
const textOf = ({ schema }: Tables, { columns, id, onConflict, table }: Compiled): string => `
  with limited as materialized (
    select pg_catalog.set_config('lock_timeout', $15, true)
    where not exists (
      select from ${schema}.pause
      where namespace in ('${Kind.wildcard}', $2::pg_catalog.text) and schema_identity in ('${Kind.wildcard}', $16)
    )
  ), recorded as (${recordedIf(schema, "limited")}
    returning call_id, namespace, service, correlation_id, context, outputs, finished_at
  ), opened as (
    ${opened(schema)}
  ), written as (
    insert into ${table} (${columns.map(({ name }) => identifier(name)).join(", ")}) overriding system value
    select ${columns.map(({ value }) => value).join(", ")}
    from (
      select call_id, namespace, service, correlation_id, $17::pg_catalog.text as part,
        null::pg_catalog.text as ordering_key, pg_catalog.date_trunc('milliseconds', finished_at) as finished_at,
        context::pg_catalog.jsonb as context, outputs[1]::pg_catalog.jsonb -> 'data'::pg_catalog.text as data
      from recorded offset 0
    ) g
    ${onConflict}
    returning ${identifier(id)}::pg_catalog.text as id
  ), kept as (
    insert into ${schema}.persisted_chunk (
      call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects
    )
    select r.call_id, $16, $17, r.namespace, $18::int, $19, $20::int, pg_catalog.jsonb_build_array(
      pg_catalog.jsonb_build_object('type'::pg_catalog.text, $21::pg_catalog.text, 'id'::pg_catalog.text, w.id)
    )
    from recorded r cross join written w
  )
  select w.id, exists (select from ${schema}.call_subscription) as ends, 1 / (
      (select pg_catalog.count(*) from recorded) = (select pg_catalog.count(*) from written)
      and not exists (
        select from written where id is null or id = '' or pg_catalog.octet_length(id) > ${longestId}
      )
    )::int as exact
  from (values (1)) one left join written w on true`

/** What the statements of the verb answer for an output. */
export interface Answer {
  /** Null if the call was not recorded. */
  readonly objects: ReadonlyArray<DomainObject> | null
  /** Whether a subscription to ends of calls exists. */
  readonly ends: boolean
}

interface Row {
  readonly exact: number
  /** Null if the call was not recorded. */
  readonly id: string | null
  readonly ends: boolean
}

/** Records a call that is {@link isOne}. Its row says the same as those of the statement for many. */
export const recordInsideOne = (t: Tables) => {
  const texts = new WeakMap<Compiled, string>()
  return (
    one: Given,
    { declaration: { object }, handler, handlerVersion, lockTimeout }: RecordInsideRequest,
    compiled: Compiled
  ) => {
    const text = texts.get(compiled) ?? textOf(t, compiled)
    texts.set(compiled, text)
    const { part = "", schema, version } = one.call.outputs[0]!
    const sent = t.sql.unsafe<Row>(text, [
      ...callValuesOf(one),
      String(Math.ceil(Duration.toMillis(lockTimeout))),
      schema,
      part,
      version,
      handler,
      handlerVersion,
      object
    ])
    return Effect.map(
      sent,
      (rows) => rows.map(({ ends, id }): Answer => ({ ends, objects: id === null ? null : [{ type: object, id }] }))
    )
  }
}
