/**
 * Which rows may be pruned, and how many there are: counted up to a limit, and estimated beyond it.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import { ageOf, type Pruned, type RetentionPolicy } from "../../Retention.ts"
import { isOf } from "./feeds.ts"
import type { Tables } from "./tables.ts"
import { ago } from "./time.ts"

/** Makes a condition search the queue by an index for each row, instead of reading all of the queue for a few rows. */
const oneByOne = "offset 0"
const inOneGo = ""

/**
 * The condition for calls `c` whose chunks are all persisted or discarded. The index `service_call_age` contains only calls
 * with a result. Pruned calls are not in it, and neither are failed ones, which may run again and are kept.
 */
export const isDone = ({ dead, queue, sql }: Tables, how = oneByOne) =>
  sql`not exists (select from ${queue} q where q.call_id = c.call_id ${sql.literal(how)})
    and not exists (
      select from ${dead} d where d.call_id = c.call_id and d.discarded_at is null ${sql.literal(how)}
    )`

/** The condition for failures `f` of chunks that are neither outstanding nor dead letters. */
export const isOver = ({ dead, queue, sql }: Tables, how = oneByOne) =>
  sql`not exists (
      select from ${queue} q
      where q.call_id = f.call_id and q.schema_identity = f.schema_identity and q.part = f.part ${sql.literal(how)}
    ) and not exists (
      select from ${dead} d
      where d.call_id = f.call_id and d.schema_identity = f.schema_identity and d.part = f.part ${sql.literal(how)}
    )`

/** The condition for ends `e` of calls that every subscription to them has read. */
export const isRead = (t: Tables) =>
  t.sql`not exists (
      select from ${t.subscription} s where ${isOf(t, "calls")} and (s.xact, s.seq) < (e.xact, e.seq)
    )`

/** How many rows of an age are examined. If there are more, the figure is an estimate. */
const mostExamined = 5000

/** Rows of an age, and which of them may be pruned. */
interface Prunable {
  /** The table's name. */
  readonly table: string
  /** The table and its condition for the age. */
  readonly rows: Fragment
  /** Their order by age, if an index has it; else empty. */
  readonly order: string
  readonly as: "c" | "e" | "f"
  /** The columns that the condition needs: a call is a wide row. */
  readonly columns: string
  readonly may: (how: string) => Fragment
}

interface Figure {
  readonly count: number
  readonly isEstimate: boolean
}

/** The rows of the top step of a plan, as `explain (format json)` gives it. */
interface Explained {
  readonly "QUERY PLAN": ReadonlyArray<{ readonly Plan: { readonly "Plan Rows": number } }>
}

const all = ({ sql }: Tables, { as, columns, may, rows }: Prunable) =>
  Effect.map(
    sql<{ count: number }>`
      select pg_catalog.count(*)::int as count
      from (select ${sql.literal(columns)} from ${rows}) ${sql.literal(as)} where ${may(inOneGo)}`,
    ([row]): Figure => ({ count: row?.count ?? 0, isEstimate: false })
  )

/**
 * Examines the first rows. If there are more, multiplies the server's estimate of their number by the share of the first
 * that may be pruned. A table that was never analyzed has no useful estimate: its rows are counted.
 */
const figureOf = Effect.fnUntraced(function*(t: Tables, prunable: Prunable): Effect.fn.Return<Figure, SqlError> {
  const { schema, sql } = t
  const { as, columns, may, order, rows, table } = prunable
  const [first] = yield* sql<{ looked: number; count: number; analyzed: boolean }>`
    with old as materialized (
      select ${sql.literal(columns)} from ${rows} ${sql.literal(order)} limit ${mostExamined + 1}
    )
    select (select pg_catalog.count(*)::int from old) as looked, pg_catalog.count(*)::int as count, (
        select reltuples::pg_catalog.float8 >= 0::pg_catalog.float8 from pg_catalog.pg_class
        where oid = ${`${schema}.${table}`}::pg_catalog.regclass::pg_catalog.oid
      ) as analyzed
    from old ${sql.literal(as)} where ${may(oneByOne)}`
  if (first === undefined || first.looked <= mostExamined) return { count: first?.count ?? 0, isEstimate: false }
  if (!first.analyzed) return yield* all(t, prunable)
  const [plan] = yield* sql<Explained>`explain (format json) select from ${rows}`
  const estimate = plan?.["QUERY PLAN"][0]?.Plan["Plan Rows"] ?? 0
  return { count: Math.max(first.count, Math.round(estimate * first.count / first.looked)), isEstimate: true }
})

const none: Figure = { count: 0, isEstimate: false }

/** How many rows a prune would delete now. */
export const preview = Effect.fnUntraced(function*(t: Tables, policy: RetentionPolicy, exact: boolean) {
  const { attempt, call, callEnd, dead, failure, sql } = t
  const figure = (input: Duration.Input | undefined, of: (cutoff: Fragment) => Prunable) => {
    const age = ageOf(input)
    return age === undefined ? Effect.succeed(none) : (exact ? all : figureOf)(t, of(ago(t, age)))
  }
  const figures = {
    payloads: yield* figure(policy.payloads, (cutoff) => ({
      table: "service_call",
      rows: sql`${call} where outputs is not null and recorded_at < ${cutoff}`,
      order: "order by recorded_at",
      as: "c",
      columns: "call_id",
      may: (how) => isDone(t, how)
    })),
    discarded: yield* figure(policy.discarded, (cutoff) => ({
      table: "dead_letter",
      rows: sql`${dead} where discarded_at < ${cutoff}`,
      order: "",
      as: "c",
      columns: "call_id",
      may: () => sql`true`
    })),
    failures: yield* figure(policy.failures, (cutoff) => ({
      table: "chunk_failure",
      rows: sql`${failure} where at < ${cutoff}`,
      order: "order by at",
      as: "f",
      columns: "call_id, schema_identity, part",
      may: (how) => isOver(t, how)
    })),
    answers: yield* figure(policy.payloads, (cutoff) => ({
      table: "call_attempt",
      rows: sql`${attempt} where text is not null and answered_at < ${cutoff}`,
      order: "order by answered_at",
      as: "c",
      columns: "call_id",
      may: (how) => isDone(t, how)
    })),
    ends: yield* figure(policy.payloads, (cutoff) => ({
      table: "call_end",
      rows: sql`${callEnd} where ended_at < ${cutoff}`,
      order: "order by xact, seq",
      as: "e",
      columns: "xact, seq",
      may: () => isRead(t)
    }))
  }
  const about = (["payloads", "discarded", "failures", "answers", "ends"] as const).filter((name) =>
    figures[name].isEstimate
  )
  const pruned: Pruned = {
    payloads: figures.payloads.count,
    discarded: figures.discarded.count,
    failures: figures.failures.count,
    answers: figures.answers.count,
    ends: figures.ends.count,
    ...about.length === 0 ? {} : { about }
  }
  return pruned
})
