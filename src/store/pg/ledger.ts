/**
 * The verb `ledger`: reads lines of the ledger as rows that each fit into a message, and joins them.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { LedgerEntry } from "../../CallView.ts"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import { unnested } from "./columns.ts"
import type { Engine } from "./engine.ts"
import { iso } from "./json.ts"
import type { Tables } from "./tables.ts"

const decode = Schema.decodeUnknownEffect(LedgerEntry)

/** A row of an answer that the reader joins. */
export interface Part<Kind extends string> {
  readonly kind: Kind
  /** The number of what it belongs to: a chunk, a requested key, or an output. */
  readonly n: number
  /** Its place among others of its kind and number. */
  readonly place: number
  readonly value: unknown
}

/** The approximate size in bytes of a ledger line's objects that are read as one row. */
const portion = 1024 * 1024

/**
 * The ledger lines of the keys in `k`, numbered `n`. A line is one row without its objects, and rows of about a megabyte
 * with them: a line written before there was a limit can exceed the size of a message. Objects without type and id are left
 * out: rows can have been edited manually.
 */
export const ledgerParts = ({ ledger, sql }: Tables) =>
  sql`
    select 'ledger' as kind, k.n, 0::pg_catalog.float8 as place, pg_catalog.json_build_object(
      'key', pg_catalog.json_build_object('callId', l.call_id, 'schemaIdentity', l.schema_identity, 'part', l.part),
      'namespace', l.namespace, 'schemaVersion', l.schema_version, 'handler', l.handler,
      'handlerVersion', l.handler_version, 'persistedAt', ${sql.literal(iso("l.persisted_at"))}
    ) as value
    from k join ${ledger} l using (call_id, schema_identity, part)
    union all
    select 'objects', k.n, o.portion::pg_catalog.float8,
      pg_catalog.json_agg(pg_catalog.json_build_object('type', o.value ->> 'type'::pg_catalog.text, 'id', o.value ->> 'id'::pg_catalog.text) order by o.place)
    from k join ${ledger} l using (call_id, schema_identity, part)
    cross join lateral (
      select e.value, e.place, pg_catalog.sum(pg_catalog.octet_length(e.value::pg_catalog.text)) over (order by e.place) / ${portion} as portion
      from pg_catalog.jsonb_array_elements(case when pg_catalog.jsonb_typeof(l.objects) = 'array' then l.objects else '[]' end)
        with ordinality e(value, place)
      where pg_catalog.jsonb_typeof(e.value) = 'object' and e.value ->> 'type'::pg_catalog.text <> '' and e.value ->> 'id'::pg_catalog.text <> ''
    ) o
    group by k.n, o.portion`

/** The parts of one kind, by number, each list in the order of their places. */
export const partsOf = <Kind extends string>(
  parts: ReadonlyArray<Part<Kind>>,
  kind: Kind
): ReadonlyMap<number, Array<unknown>> => {
  const found = new Map<number, Array<unknown>>()
  for (const part of parts.filter((part) => part.kind === kind).sort((a, b) => a.place - b.place)) {
    const values = found.get(part.n)
    if (values === undefined) found.set(part.n, [part.value])
    else values.push(part.value)
  }
  return found
}

/** The joined ledger lines, by number. */
export const linesOf = (parts: ReadonlyArray<Part<string>>): ReadonlyMap<number, object> => {
  const objects = partsOf(parts, "objects")
  return new Map(
    [...partsOf(parts, "ledger")].map((
      [n, [line]]
    ) => [n, { ...line as object, objects: objects.get(n)?.flat() ?? [] }])
  )
}

/** The ledger lines of these keys. */
export const linesAt = (t: Tables, keys: ReadonlyArray<ChunkKey>) =>
  Effect.flatMap(
    t.sql<Part<"ledger" | "objects">>`
      with k as materialized (
        select *, pg_catalog.row_number() over ()::int as n from ${
      unnested(t, [
        t.sql`${keys.map((key) => key.callId)}::pg_catalog.text[]`,
        t.sql`${keys.map((key) => key.schemaIdentity)}::pg_catalog.text[]`,
        t.sql`${keys.map((key) => key.part)}::pg_catalog.text[]`
      ])
    } k(call_id, schema_identity, part)
      )
      ${ledgerParts(t)}`,
    // Sluice built this JSON: if it does not decode, that is a bug
    (parts) => Effect.orDie(Effect.forEach(linesOf(parts).values(), (line) => decode(line)))
  )

/** The verb. */
export const ledger = ({ t }: Engine): ChunkStore["Service"]["ledger"] => (keys) => t.client.statement(linesAt(t, keys))
