/**
 * What the claim's two statements share: how rows are asked for and answered. Either statement is one commit that does not wait
 * for the disk: losing a claim in a crash loses nothing.
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
 * A row of a claim's answer, by place and not by name: an object of twenty names for each row was a sixth of what a drain
 * allocates. What nearly always has one value is null then, which costs neither end anything. When nothing was claimed
 * there is one row, with a null `seq`.
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
   * Bytes of what is handed out in this row, when these are more than may be: then `output` is null. Below 0: those of
   * `context` and `input` alone, which are null as well. 0 when there is no output.
   */
  withheld: number | null,
  /** JSON text; null as well when it has a `position`. */
  output: string | null,
  /** Null when it is empty. What follows of the call, up to `outputs`, is null in the row after one of the same call. */
  context: string | null,
  input: string | null,
  service: string | null,
  correlationId: string | null,
  finishedAt: Date | null,
  trace: unknown,
  /** How many outputs the call has. */
  outputs: number | null,
  /** Its place among them when it is one of several of its call that are read together, by `outputs.ts`. */
  position: number | null,
  // a plain claim has none of these
  orderingKey?: string | null,
  crashes?: number,
  loneCrashes?: number
]

/** What a claim's statement says of its scan. Times are texts of ISO 8601, whatever the session's date style. */
export type Said = readonly [
  /**
   * Of `claimPlain`, 1 when something special was due and nothing was claimed; of `claimAny`, how many chunks were
   * found to be behind an older one of their key, and put aside.
   */
  aside: number,
  /** The server's time, in milliseconds. */
  now: number,
  /** Where the next claim may begin: all that is ready and free up to there was taken. */
  markTime: string | null,
  markSeq: string | null,
  /** Whether all that is ready and free was taken. Then the mark is a second before the last that was found. */
  ended: boolean,
  /** Where the scan of what is ready goes on, unless it came to the end. */
  readyTime: string | null,
  readySeq: string | null,
  /** The same of what is scheduled. */
  scheduledTime: string | null,
  scheduledSeq: string | null,
  /** Of a claim for one call, the kinds that nobody may drain now: whoever persists inline may have no beats to learn them by. */
  paused: ReadonlyArray<Kind.Kind> | null
]

/** Where what stands in such a row. Not taken apart by a pattern: that makes an object for each place of each row. */
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
  outputs: 18,
  position: 19,
  orderingKey: 20,
  crashes: 21,
  loneCrashes: 22
} as const

/** The part of a list that is looked at: what comes after a place, what comes up to one, both, all of it, or none. */
export type Range = "none" | { readonly after?: Place | undefined; readonly upTo?: Place | undefined }

/** How a store claims. */
export interface ClaimOptions {
  readonly token: string
  readonly deadBlocksKey: boolean
  /** What to look at of the ready, in the order of rank. */
  readonly ready: Range
  /** What to look at of the scheduled, in the order of their times. */
  readonly scheduled: Range
  /** The most chunks of each list that are looked at: as many as may be claimed, or more where nothing was found so far. */
  readonly window: number
  /** Leases that ended later than this are not judged yet, in seconds of the server's clock: see `contact`. */
  readonly judged: number
  /** The most bytes of JSON handed out for one chunk: what is longer the client would not take. */
  readonly longest: number
  /** Whether the claim is part of a transaction of the caller's, whose commit must last. */
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
export const onlyAsked = (t: Tables, { callId, except = [], namespace, own = [] }: ClaimRequest) => {
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

/** The rows of a range, in the order of a column and `seq`. */
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

/** Rows that no worker holds, or none that is heard of any more. */
export const isFree = ({ sql }: Tables, { judged }: ClaimOptions) =>
  sql`(lease_until is null
        or lease_until < least(pg_catalog.now(), pg_catalog.to_timestamp(${judged}::pg_catalog.float8)))`

/**
 * The one row of a {@link Said}. `mark` is a row of the rank and seq of the last that was found, `ended` a truth; `next` are the
 * four after it.
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
 * Whether a row comes after another of its call, in the order of a claim. What the chunks of a call share is handed out, and
 * counted, once where they come one after another, as they do unless one failed.
 */
export const isAgain = (order: "rank" | "turn", of = ""): string =>
  `coalesce(${of}call_id = pg_catalog.lag(${of}call_id) over (order by ${of}${order}, ${of}seq), false) as again`
export const bytesOnce = "bytes - case when again then shared_bytes else 0 end"

/**
 * What is handed out of the rows in `held`, with their calls; `said` is there even when nothing was claimed. For this
 * statement's own commit only, none waits for the disk.
 *
 * Queue rows are found by an array of their numbers and not by a join: a join is planned by a guess of how many there will
 * be, and on a plan kept for all calls that guess was a tenth of the queue, which it read from end to end. Nor is a call
 * looked for by a plan that was made for a small table and reads a large one: `offset 0` keeps the planner from joining, so
 * that each is one descent of the key's index.
 *
 * To take one output out of a call's `outputs` the server unpacks all of them. Of a call of which several chunks are handed
 * out it does so for the first four at most; the others (`mates`) are read together afterwards.
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
      c.service, c.correlation_id, c.finished_at, c.trace, c.outputs, case when h.mates then h.position end ${more}
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
          service, correlation_id, finished_at, trace, case when not h.again then pg_catalog.cardinality(outputs) end as outputs
        from ${call} where call_id = h.call_id and not (h.again and h.mates) offset 0
      ) t offset 0
    ) c on true`

/** Runs a statement that ends with {@link answer}. */
export const rows = (statement: Statement<unknown>) =>
  statement.values as Effect.Effect<ReadonlyArray<ClaimRow>, SqlError>
