/**
 * Compares calls that already exist with the given ones of the same id.
 */
import * as Effect from "effect/Effect"
import type { CallJson } from "../../internal/callJson.ts"
import { sameJson } from "../../internal/sameJson.ts"
import { rowsOf } from "./columns.ts"
import { type Given, specColumns } from "./given.ts"
import type { Tables } from "./tables.ts"

/** An existing call beside a given one with its id. A column that is equal as text is not read: it is null. */
interface Compared {
  readonly call_id: string
  /** Namespace, service and ordering key are equal, and the rest is short enough to compare. */
  readonly same: boolean
  readonly erased: boolean
  /** Input and outputs were pruned and cannot be compared: they count as the same. */
  readonly pruned: boolean
  readonly context: string | null
  readonly input: string | null
  readonly outputs: string | null
}

/**
 * Reads the calls that already exist, for comparison. A redelivered call is nearly always equal as text, which the server
 * compares. The rest is compared here, by {@link sameJson}, because Postgres' own comparison does not accept every text that
 * `json` accepts.
 */
const beside = (t: Tables, calls: ReadonlyArray<Given>, longest: number) => {
  const { call, sql } = t
  const rows = rowsOf(t, [
    ...specColumns(calls),
    { name: "outputs", type: "text", values: calls.map(({ text }) => outputsText(text)) }
  ])
  return sql<Compared>`
    select c.call_id, c.erased, c.outputs is null as pruned,
      c.fits and c.namespace = g.namespace and c.service = g.service
        and c.ordering_key is not distinct from nullif(g.ordering_key, '') as same,
      case when c.fits then nullif(c.context, g.context) end as context,
      case when c.fits then nullif(c.input, g.input) end as input,
      case when c.fits then nullif(c.outputs, g.outputs) end as outputs
    from (${rows}) g
    join lateral (
      select call_id, erased, namespace, service, ordering_key, context, input, outputs,
        pg_catalog.octet_length(context) + pg_catalog.octet_length(input)
          + coalesce(pg_catalog.octet_length(outputs), 0) <= ${longest} as fits
      from (
        select call_id, erasure is not null as erased, namespace, service, ordering_key, context::pg_catalog.text, coalesce(input::pg_catalog.text, '') as input,
          pg_catalog.array_to_json(outputs)::pg_catalog.text as outputs
        from ${call} where call_id = g.call_id
      ) texts
    ) c on true`
}

const outputsText = (text: CallJson): string => `[${text.outputs.join()}]`

/** JSON text; the empty text is an absent input, which is the same as null. */
const parse = (text: string): unknown => text === "" ? null : JSON.parse(text)

const isSame = ({ text }: Given, found: Compared): boolean => {
  const same = (stored: string | null, given: string) => stored === null || sameJson(parse(stored), parse(given))
  return found.same && same(found.context, text.context) &&
    (found.pruned || (same(found.input, text.input) && same(found.outputs, outputsText(text))))
}

/**
 * Whether existing calls are the same as the given ones, or were erased, whatever they were. Times, details, trace,
 * correlation id and priority may differ. Pruned input and results cannot be compared and count as the same.
 */
export const compare = (t: Tables, calls: ReadonlyArray<Given>, longest: number) =>
  Effect.map(beside(t, calls, longest), (rows) => {
    const given = new Map(calls.map((one) => [one.call.callId, one]))
    return rows.map((found) => ({
      callId: found.call_id,
      outcome: found.erased ? "erased" : isSame(given.get(found.call_id)!, found) ? "unchanged" : "conflict"
    } as const))
  })
