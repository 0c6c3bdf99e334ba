/**
 * The parts that the claim's two statements share: conditions on rows, and the form of the answer. Either statement is one
 * commit that does not wait for the disk: losing a claim in a crash does no harm.
 */
import type * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment, Statement } from "effect/sql/Statement"
import type { ClaimRequest } from "../../ChunkStore.ts"
import * as Kind from "../../Kind.ts"
import { unnested } from "./columns.ts"
import type { Place } from "./lowWater.ts"
import type { Tables } from "./tables.ts"

/**
 * A row of a claim's answer, by position and not by name: an object with twenty names for each row was a sixth of a drain's
 * allocations. Columns that nearly always have one value are null in that case, which is free for both server and client.
 * When nothing was claimed there is one row, with a null `seq`.
 */
export type ClaimRow = readonly [
  /** On the first row: {@link Said}, as JSON text. */
  said: string | null,
  /** The row's place in the claim's order. */
  place: number,
  seq: bigint | null,
  callId: string,
  schemaIdentity: string,
  part: string,
  namespace: string,
  schemaVersion: number,
  attempts: number,
  recordedAt: Date,
  /**
   * Bytes of this row's JSON when they exceed the limit; then `output` is null. Below 0: bytes of `context` and `input`
   * alone, which are null as well. 0 when there is no output.
   */
  withheld: number | null,
  /** JSON text; null as well when it has a `position`. */
  output: string | null,
  /** Null when empty. From here up to `outputs`, columns are null in a row that follows one of the same call. */
  context: string | null,
  input: string | null,
  service: string | null,
  correlationId: string | null,
  finishedAt: Date | null,
  trace: unknown,
  /** JSON text; null without any. */
  facts: string | null,
  /** How many outputs the call has. */
  outputs: number | null,
  /** Its place among them, if `outputs.ts` reads it together with other outputs of its call. */
  position: number | null,
  fingerprint: number | null,
  // a plain claim leaves these out
  orderingKey?: string | null,
  crashes?: number,
  loneCrashes?: number
]

/** What a claim's statement reports about its scan. Times are ISO 8601 text, whatever the session's date style. */
export type Said = readonly [
  /**
   * Of `claimPlain`, 1 when a special chunk was due and nothing was claimed. Of `claimAny`, how many chunks were behind an
   * older one of their key and set to waiting.
   */
  aside: number,
  /** The server's time, in milliseconds. */
  now: number,
  /** Where the next claim may begin: all ready and free chunks up to there were taken. */
  markTime: string | null,
  markSeq: string | null,
  /** Whether all ready and free chunks were taken. Then the mark is a second before the last one found. */
  ended: boolean,
  /** Where the scan of ready chunks continues, unless it reached the end. */
  readyTime: string | null,
  readySeq: string | null,
  /** The same for scheduled chunks. */
  scheduledTime: string | null,
  scheduledSeq: string | null,
  /**
   * Of a claim for one call, the paused kinds: a caller that persists inline may not beat, and would not learn of them
   * otherwise.
   */
  paused: ReadonlyArray<Kind.Kind> | null
]

/** Positions in such a row. Not destructured: that allocates an object for each element of each row. */
export const at = {
  said: 0,
  place: 1,
  seq: 2,
  callId: 3,
  schemaIdentity: 4,
  part: 5,
  namespace: 6,
  schemaVersion: 7,
  attempts: 8,
  recordedAt: 9,
  withheld: 10,
  output: 11,
  context: 12,
  input: 13,
  service: 14,
  correlationId: 15,
  finishedAt: 16,
  trace: 17,
  facts: 18,
  outputs: 19,
  position: 20,
  fingerprint: 21,
  orderingKey: 22,
  crashes: 23,
  loneCrashes: 24
} as const

/** The range of a list to scan: after a place, up to a place, both, all of it, or none. */
export type Range = "none" | { readonly after?: Place | undefined; readonly upTo?: Place | undefined }

/** The parameters of one claim statement. */
export interface ClaimOptions {
  readonly token: string
  readonly deadBlocksKey: boolean
  /** The range of ready chunks to scan, in the order of rank. */
  readonly ready: Range
  /** The range of scheduled chunks to scan, in the order of their times. */
  readonly scheduled: Range
  /** The most chunks of each list to examine: as many as may be claimed, or more after scans that found nothing. */
  readonly window: number
  /** Leases that ended after this time do not count as expired yet, in seconds of the server's clock: see `contact`. */
  readonly judged: number
  /** The most bytes of JSON sent for one chunk: the client refuses longer ones. */
  readonly longest: number
  /** Whether the claim is part of a caller's transaction, whose commit must be durable. */
  readonly nested: boolean
}

/** The namespace whose handlers serve all others, as SQL. */
export const core = `'${Kind.core}'`

/** Kinds as rows of namespace, schema and a version. */
const kindRows = (t: Tables, kinds: ReadonlyArray<Kind.Kind & { readonly version: number }>) =>
  unnested(t, [
    t.sql`${kinds.map((kind) => kind.namespace)}::pg_catalog.text[]`,
    t.sql`${kinds.map((kind) => kind.schemaIdentity)}::pg_catalog.text[]`,
    t.sql`${kinds.map((kind) => kind.version)}::bigint[]`
  ])

/** No recorded version is newer than this one, and none is older than {@link oldest}: the column is an integer. */
export const newest = 2 ** 31
const oldest = -newest - 1

/** What is served, as rows of namespace, schema and the newest version that is read. */
export const servedRows = (t: Tables, serves: ReadonlyArray<Kind.Served>) =>
  kindRows(t, serves.map((kind) => ({ ...kind, version: kind.version ?? newest })))

/** What a claim may take of the table as `q`, by namespace, call, kind and version. */
export const onlyAsked = (
  t: Tables,
  { callId, except = [], namespace, own = [] }: Pick<ClaimRequest, "callId" | "except" | "namespace" | "own">
) => {
  const { sql } = t
  return sql.and([
    ...(namespace === undefined ? [] : [sql`namespace = ${namespace}`]),
    ...(callId === undefined ? [] : [sql`call_id = ${callId}`]),
    ...(except.length === 0 ? [] : [
      sql`(not exists (
        select from ${
        kindRows(t, except.map((kind) => ({ ...kind, version: kind.above ?? oldest })))
      } e(namespace, schema_identity, above)
        where e.schema_identity = q.schema_identity and e.namespace in (q.namespace, ${sql.literal(core)})
          and q.schema_version > e.above
      ) or exists (
        select from ${servedRows(t, own)} own(namespace, schema_identity, version)
        where own.schema_identity = q.schema_identity and own.namespace = q.namespace and q.schema_version <= own.version
      ))`
    ]),
    sql`true`
  ])
}

/** The condition for rows of a range, in the order of a column and `seq`. */
export const inRange = ({ sql }: Tables, column: "rank" | "due_at", range: Range) => {
  if (range === "none") return sql`false`
  const to = ({ seq, time }: Place) => sql`(${time}::pg_catalog.timestamptz, ${seq})`
  const place = sql`(${sql.literal(column)}, seq)`
  return sql.and([
    ...(range.after === undefined ? [] : [sql`${place} > ${to(range.after)}`]),
    ...(range.upTo === undefined ? [] : [sql`${place} <= ${to(range.upTo)}`]),
    sql`true`
  ])
}

/** The condition for rows without a lease, or with an expired one. */
export const isFree = ({ sql }: Tables, { judged }: Pick<ClaimOptions, "judged">) =>
  sql`(lease_until is null
        or lease_until < least(pg_catalog.now(), pg_catalog.to_timestamp(${judged}::pg_catalog.float8)))`

/**
 * The one row of a {@link Said}. `mark` selects rank and seq of the last row found, `ended` is a boolean, and `next` are the
 * four columns after it.
 */
export const saidOf = (
  { sql }: Tables,
  { aside, ended, mark, next, paused }: {
    readonly aside: Fragment
    readonly mark: Fragment
    readonly ended: Fragment
    readonly next: Fragment
    readonly paused: Fragment
  }
) =>
  sql`said as materialized (
      select pg_catalog.json_build_array(
        ${aside}, extract(epoch from pg_catalog.now()) * 1000.0,
        case when e.ended then m.rank - interval '1 second' else m.rank end,
        case when e.ended then '0' else m.seq::pg_catalog.text end, e.ended, ${next}, ${paused}
      )::pg_catalog.text as text
      from (select ${ended} as ended) e left join (${mark}) m on true
    )`

/**
 * Whether a row follows one of the same call, in the order of a claim. What the chunks of a call share is sent, and counted,
 * once if they are adjacent, as they are unless one failed.
 */
export const isAgain = (order: "rank" | "turn", of = ""): string =>
  `coalesce(${of}call_id = pg_catalog.lag(${of}call_id) over (order by ${of}${order}, ${of}seq), false) as again`
export const bytesOnce = "bytes - case when again then shared_bytes else 0 end"

/**
 * The columns to send of the rows in `held`, with their calls; `said` is present even when nothing was claimed. Turns off
 * waiting for the disk for this statement's own commit.
 *
 * Queue rows are found by an array of their numbers, not by a join. The planner estimates a join's row count, and in a plan
 * kept for all calls that estimate was a tenth of the queue, which it read completely. For calls, `offset 0` keeps the
 * planner from joining: a plan made for a small table would otherwise read a large one completely. With it, each call is one
 * descent of the key's index.
 *
 * To extract one output of a call's `outputs` the server unpacks all of them. For a call with several claimed chunks it does
 * this for the first four at most; the others (`mates`) are read together afterwards.
 */
export const answer = ({ call, sql }: Tables, { longest, nested }: ClaimOptions, more: Fragment) =>
  sql`
    select case when h.seq is null or h.place = 1 then s.text end, h.place, h.seq, h.call_id,
      h.schema_identity, h.part, h.namespace, h.schema_version, h.attempts, h.recorded_at,
      case when c.shared > ${longest} then -c.shared when coalesce(c.shared, 0) + c.own > ${longest} then coalesce(c.shared, 0) + c.own
        when c.own is null then 0 end,
      case when coalesce(c.shared, 0) + c.own <= ${longest} then c.output end,
      case when c.shared <= ${longest} then nullif(c.context, '{}') end,
      case when c.shared <= ${longest} then c.input end,
      c.service, c.correlation_id, c.finished_at, c.trace, c.facts, c.outputs, case when h.mates then h.position end,
      h.fingerprint ${more}
    from (
      select text ${nested ? sql`` : sql`, pg_catalog.set_config('synchronous_commit', 'off', true) as nosync`}
      from said
    ) s
    left join (
      select *, pg_catalog.row_number() over by_rank::int as place,
        coalesce(call_id = pg_catalog.lag(call_id) over by_rank, false) as again,
        coalesce(
          position > 3 and call_id in (pg_catalog.lag(call_id) over by_rank, pg_catalog.lead(call_id) over by_rank), false
        ) as mates
      from held window by_rank as (order by rank, seq)
    ) h on true
    left join lateral (
      select t.*, pg_catalog.octet_length(t.output) as own,
        pg_catalog.octet_length(t.context) + coalesce(pg_catalog.octet_length(t.input), 0) as shared
      from (
        select case when not h.mates then outputs[h.position + 1]::pg_catalog.text end as output,
          case when not h.again then context::pg_catalog.text end as context, case when not h.again then input::pg_catalog.text end as input,
          service, correlation_id, finished_at, trace, case when not h.again then facts::pg_catalog.text end as facts,
          case when not h.again then pg_catalog.cardinality(outputs) end as outputs
        from ${call} where call_id = h.call_id and not (h.again and h.mates) offset 0
      ) t offset 0
    ) c on true`

/** Runs a statement that ends with {@link answer}. */
export const rows = (statement: Statement<unknown>) =>
  statement.values as Effect.Effect<ReadonlyArray<ClaimRow>, SqlError>
