/**
 * Totals of the ledger: how many lines each kind has, and digests of the ids of the rows they made. Lines are counted in
 * portions, in the order of the event log, and never past the oldest transaction still running: so no line can appear before
 * the counted place later. Readers add the lines after the place to the totals, in one snapshot.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Scope } from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { horizon } from "./eventLog.ts"
import type { Tables } from "./tables.ts"

/**
 * How many lines one statement counts. Only full portions are counted, so that an idle system does not keep a digest for
 * each line.
 */
const portion = 5000
/** The most portions of one run: half a million lines, about a second. Fewer are persisted between beats. */
const mostPortions = 100
/**
 * The most lines after the place that readers take by the index. If there are more, nothing was counted for long, and the
 * server's planner decides how to read them.
 */
export const mostAfter = 100_000

/** Whether the place `p` is one of this cluster's transaction ids, by the log's row `l`. */
const isOurs = `(p.base = l.base and p.xact < ${horizon("l.base")})`

/** The counted place, as one row. `counted`: whether the totals may be used; if not, the place is the ledger's beginning. */
export const place = ({ ledgerPlace, log, sql }: Tables) =>
  sql`(
      select coalesce(${sql.literal(isOurs)}, false) as counted,
        case when ${sql.literal(isOurs)} then p.xact else '0' end as xact,
        case when ${sql.literal(isOurs)} then p.seq else 0 end as seq
      from (select 1) one left join ${ledgerPlace} p on true left join ${log} l on true limit 1
    )`

/** Up to `most` lines after the place `after`; all without `most`. The order makes the server use the index. */
export const linesAfter = ({ ledger, sql }: Tables, after: string, most: number | undefined) =>
  sql`(
      select e.call_id, e.namespace, e.schema_identity, e.objects from ${ledger} e
      where (e.xact, e.seq) > (${sql.literal(after)}.xact, ${sql.literal(after)}.seq)
      ${most === undefined ? sql`` : sql`order by e.xact, e.seq limit ${sql.literal(String(most))}`}
    )`

/** Hashes an id as the digests do. */
const hash = (id: string) => `pg_catalog.hashtext(${id})`

/** The places of the digests that may have one of these ids. The lines of a portion follow its place. */
export const digestsWith = ({ ledgerDigest, sql }: Tables, ids: ReadonlyArray<string>) =>
  sql`(
      select d.xact, d.seq from ${ledgerDigest} d
      where d.ids operator(pg_catalog.&&) array(
        select ${sql.literal(hash("id"))} from pg_catalog.unnest(${ids}::pg_catalog.text[]) id
      )
    )`

/** The lines of a digest's portion. */
export const linesOfDigest = (t: Tables, digest: string) => linesAfter(t, digest, portion)

/**
 * Counts the next full portion, if there is one, unless another worker has locked the place. Lines are read once, for the
 * kind and the first object; if some have several objects, the portion is read again for those.
 */
const count = (t: Tables) => {
  const { ledger, ledgerDigest, ledgerPlace, ledgerTotal, log, sql } = t
  return sql<{ counted: boolean; ours: boolean }>`
    with p as materialized (
      select p.xact, p.seq, ${sql.literal(horizon("l.base"))} as horizon
      from ${ledgerPlace} p cross join ${log} l
      where ${sql.literal(isOurs)} for update of p skip locked
    ), last as materialized (
      select e.xact, e.seq from p cross join lateral (
        select e.xact, e.seq from ${ledger} e
        where (e.xact, e.seq) > (p.xact, p.seq) and e.xact < p.horizon
        order by e.xact, e.seq offset ${sql.literal(String(portion - 1))} limit 1
      ) e
    ), due as materialized (
      -- by itself, so that no line is read for a portion that is not full
      select p.xact, p.seq from p cross join last
    ), counted as materialized (
      select e.namespace, e.schema_identity, pg_catalog.count(*) as chunks,
        pg_catalog.array_agg(${sql.literal(hash("e.objects -> 0 ->> 'id'::pg_catalog.text"))}) as firsts,
        pg_catalog.bool_or((e.objects -> 1) is not null) as several
      from due cross join lateral ${linesAfter(t, "due", portion)} e
      group by e.namespace, e.schema_identity
    ), again as materialized (
      select xact, seq from due where (select pg_catalog.bool_or(several) from counted)
    ), others as (
      select ${sql.literal(hash("o.value ->> 'id'::pg_catalog.text"))} as id
      from again cross join lateral ${linesAfter(t, "again", portion)} e
      cross join lateral pg_catalog.jsonb_array_elements(
        case when pg_catalog.jsonb_typeof(e.objects) = 'array' then e.objects - 0 else '[]' end
      ) o
      where (e.objects -> 1) is not null
    ), added as (
      insert into ${ledgerTotal} as t (namespace, schema_identity, chunks)
      select namespace, schema_identity, chunks from counted
      on conflict (namespace, schema_identity) do update set chunks = t.chunks + excluded.chunks
    ), digested as (
      insert into ${ledgerDigest} (xact, seq, ids)
      select xact, seq, array(
        select id from (
          select pg_catalog.unnest(firsts) as id from counted union all select id from others
        ) each where id is not null
      )
      from due
    ), moved as (
      update ${ledgerPlace} set xact = last.xact, seq = last.seq from last
    )
    select exists (select from last) as counted,
      coalesce((select ${sql.literal(isOurs)} from ${ledgerPlace} p cross join ${log} l), false) as ours`
}

/** Starts again from the beginning if the totals may not be used, or there are none. */
const restart = ({ ledgerDigest, ledgerPlace, ledgerTotal, log, sql }: Tables) =>
  sql`
    with begun as (
      insert into ${ledgerPlace} as p (base, xact, seq) select base, '0', 0 from ${log}
      on conflict (only_row) do update set base = excluded.base, xact = '0', seq = 0
      where p.base <> excluded.base or p.xact >= ${sql.literal(horizon("excluded.base"))}
      returning 1
    ), digests as (
      delete from ${ledgerDigest} where exists (select from begun)
    )
    delete from ${ledgerTotal} where exists (select from begun)`

/** Counts the full portions that there are, up to a bound. */
export const countLedger = (t: Tables): Effect.Effect<void, SqlError> =>
  Effect.gen(function*() {
    let [row] = yield* count(t)
    if (row?.ours === false) {
      yield* restart(t)
      const [again] = yield* count(t)
      row = again
    }
    for (let n = 1; n < mostPortions && row?.counted === true; n++) {
      const [next] = yield* count(t)
      row = next
    }
  })

/**
 * Counts in a fiber of its own, as long as the scope is open: a beat that waited for half a million lines would be late.
 * Returns the effect that requests a count.
 */
export const countingAside = Effect.fnUntraced(
  function*(t: Tables): Effect.fn.Return<Effect.Effect<unknown>, never, Scope> {
    const asked = yield* Latch.make(false)
    const count = asked.await.pipe(
      Effect.andThen(asked.close),
      // if this role lacks the rights, other workers count
      Effect.andThen(Effect.ignoreCause(t.client.statement(countLedger(t)), { log: "Debug" }))
    )
    yield* Effect.forkScoped(Effect.forever(count))
    return asked.open
  }
)
