/**
 * What the verb `persistInside` answers of the chunks that it has persisted: JSON text, a list for each property, which both
 * server and client handle faster than a row for each chunk.
 */
import type { InsideRequest, PersistedInside } from "../../ChunkStore.ts"
import type { DomainObject } from "../../DomainObject.ts"
import type { Tables } from "./tables.ts"

/** Persisted chunks. A list is null when all chunks have the usual value. */
type Packed = readonly [
  callIds: ReadonlyArray<string>,
  /** Of each chunk: the id of its row, or a list of ids if the declaration makes a row for each element. */
  ids: ReadonlyArray<string | ReadonlyArray<string>>,
  recordedAt: ReadonlyArray<number>,
  /** Only the first when all are the same. */
  services: ReadonlyArray<string>,
  /** Null when all are empty. */
  parts: ReadonlyArray<string> | null,
  /** Null when all are the kind's. */
  namespaces: ReadonlyArray<string> | null,
  /** Null when all are the call ids. */
  correlationIds: ReadonlyArray<string> | null,
  /** Null when all are empty. */
  contexts: ReadonlyArray<PersistedInside["context"]> | null
]

/** The most bytes of names and contexts that are sent in one row: see `longest.ts`. Their JSON may be six times as long. */
const mostPacked = 1024 * 1024

/** The settled chunks in the order of recording: all in one row if they are not too long, or each in a row of its own. */
export const packedOf = ({ sql }: Tables, { kind: { namespace } }: InsideRequest) =>
  sql`
      select pg_catalog.json_build_array(
        pg_catalog.json_agg(call_id), pg_catalog.json_agg(coalesce(ids, '[]')),
        pg_catalog.json_agg((pg_catalog.date_part('epoch', recorded_at) * 1000)::bigint),
        case when pg_catalog.min(service) = pg_catalog.max(service)
          then pg_catalog.json_build_array(pg_catalog.min(service)) else pg_catalog.json_agg(service) end,
        case when pg_catalog.max(part) <> '' then pg_catalog.json_agg(part) end,
        case when pg_catalog.bool_or(namespace <> ${namespace}) then pg_catalog.json_agg(namespace) end,
        case when pg_catalog.bool_or(correlation_id <> call_id) then pg_catalog.json_agg(correlation_id) end,
        case when pg_catalog.max(told) is not null then pg_catalog.json_agg(coalesce(told, '{}')::pg_catalog.json) end
      )::pg_catalog.text as text
      from (
        select *, case when size.total > ${mostPacked} then seq end as pack from settled, (
          select pg_catalog.sum(pg_catalog.pg_column_size(objects) + coalesce(pg_catalog.octet_length(told), 0)) as total
          from settled
        ) size
        order by pack, seq
      ) s group by pack order by pack`

const noContext = {}

/** The chunks of such a text. */
export const unpacked = (
  { declaration: { object: type }, kind: { namespace, schemaIdentity } }: InsideRequest,
  text: string
): ReadonlyArray<PersistedInside> => {
  // the statement produces only this JSON
  const [callIds, ids, recordedAt, services, parts, namespaces, correlationIds, contexts] = JSON.parse(text) as Packed
  const objectsOf = (some: Packed[1][number] = []): ReadonlyArray<DomainObject> =>
    typeof some === "string" ? [{ type, id: some }] : some.map((id) => ({ type, id }))
  return callIds.map((callId, index): PersistedInside => ({
    key: { callId, schemaIdentity, part: parts?.[index] ?? "" },
    namespace: namespaces?.[index] ?? namespace,
    service: services[services.length === 1 ? 0 : index] ?? "",
    correlationId: correlationIds?.[index] ?? callId,
    context: contexts?.[index] ?? noContext,
    recordedAt: recordedAt[index] ?? 0,
    objects: objectsOf(ids[index])
  }))
}
