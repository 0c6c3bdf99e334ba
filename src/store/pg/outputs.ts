/**
 * Reads the outputs of calls with more than a few claimed chunks together. The server unpacks all outputs of a call to
 * extract one, so reading them one by one would take time quadratic in the size of the call.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Output } from "./chunk.ts"
import { at, type ClaimRow } from "./claimParts.ts"
import { unnested } from "./columns.ts"
import type { Tables } from "./tables.ts"

/** A call, and the places of its wanted outputs. */
interface Wanted {
  readonly callId: string
  readonly positions: Array<number>
  first: number
  last: number
}

const wantedOf = (rows: ReadonlyArray<ClaimRow>): ReadonlyArray<Wanted> => {
  const wanted = new Map<string, Wanted>()
  for (const row of rows) {
    const position = row[at.position]
    if (position === null) continue
    const callId = row[at.callId]
    const before = wanted.get(callId)
    if (before === undefined) {
      wanted.set(callId, { callId, positions: [position], first: position, last: position })
    } else {
      before.positions.push(position)
      before.first = Math.min(before.first, position)
      before.last = Math.max(before.last, position)
    }
  }
  return [...wanted.values()]
}

interface Row {
  readonly call_id: string
  readonly position: number
  readonly output: string | null
  readonly bytes: number | null
}

/** Copies only the range of a call's outputs that contains the wanted ones. */
const read = (t: Tables, wanted: ReadonlyArray<Wanted>, longest: number) =>
  t.sql<Row>`
    select w.call_id, o.position, case when o.bytes <= ${longest} then o.output end as output,
      case when o.bytes > ${longest} then o.bytes end as bytes
    from ${
    unnested(t, [
      t.sql`${wanted.map(({ callId }) => callId)}::pg_catalog.text[]`,
      t.sql`${wanted.map(({ first }) => Math.max(0, first) + 1)}::int[]`,
      t.sql`${wanted.map(({ last }) => Math.max(0, last) + 1)}::int[]`,
      t.sql`${wanted.map(({ positions }) => `{${positions.join()}}`)}::pg_catalog.text[]`
    ])
  } w(call_id, first, last, positions)
    cross join lateral (
      select outputs[w.first:w.last] as outputs, w.positions::int[] as positions
      from ${t.call} where call_id = w.call_id offset 0
    ) c
    cross join lateral (
      select (w.first + l.n - 2)::int as position, l.output::pg_catalog.text as output,
        pg_catalog.octet_length(l.output::pg_catalog.text) as bytes
      from pg_catalog.unnest(c.outputs) with ordinality l(output, n)
      where w.first + l.n - 2 = any(c.positions) offset 0
    ) o`

const none: Output = { text: null, bytes: null }

/** Reads the outputs that a claim's rows leave out. Returns a function that gives a row's output, if the row lacks it. */
export const outputsOf = Effect.fnUntraced(function*(
  t: Tables,
  rows: ReadonlyArray<ClaimRow>,
  longest: number
): Effect.fn.Return<(row: ClaimRow) => Output | undefined, SqlError> {
  const wanted = wantedOf(rows)
  if (wanted.length === 0) return () => undefined
  const found = new Map<string, Map<number, Output>>(wanted.map(({ callId }) => [callId, new Map()]))
  for (const { bytes, call_id, output, position } of yield* read(t, wanted, longest)) {
    found.get(call_id)?.set(position, { text: output, bytes })
  }
  return (row) => {
    const position = row[at.position]
    return position === null ? undefined : found.get(row[at.callId])?.get(position) ?? none
  }
})
