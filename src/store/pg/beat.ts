/**
 * The verb `beat`: a worker's heartbeat and its upkeep, in one statement. It also releases some waiting chunks that nothing
 * blocks, adds what calls used to the sums, has the ledger counted, and writes ends of calls that were missed.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InsideUse } from "../../CallView.ts"
import { aliveFor, type ChunkStore, mostUnparked, rememberedFor } from "../../ChunkStore.ts"
import type { Kind, Left, Served } from "../../Kind.ts"
import { makeClosing } from "./callEnd.ts"
import { core, newest, servedRows } from "./claimParts.ts"
import * as Contact from "./contact.ts"
import type { Engine } from "./engine.ts"
import { servesOf } from "./serves.ts"
import type { Tables } from "./tables.ts"
import { rollUp } from "./usage.ts"
import { makeReleasing } from "./waiting.ts"

/** The statement's answer. */
interface BeatRow {
  /** The server's time, in milliseconds. */
  readonly now: number
  readonly unparked: number
  readonly elsewhere: ReadonlyArray<Left> | null
  readonly paused: ReadonlyArray<Kind> | null
}

/** How long after its last beat a worker counts as alive. */
export const alive = `interval '${Duration.toSeconds(aliveFor)} seconds'`
/** How long a worker is remembered after its last beat. */
const remembered = `interval '${Duration.toSeconds(rememberedFor)} seconds'`

/**
 * Unparks what this worker serves (`core` serves every namespace) and can read, in bounded portions, and what is no longer
 * paused. A kind is `elsewhere`, or its newer versions are, when another live worker serves it and this one does not: this
 * worker then leaves it alone in its claims, so that old and new programs side by side do not park and unpark each other's
 * chunks.
 */
const statement = (t: Tables, id: string, serves: ReadonlyArray<Served>, inside: ReadonlyArray<InsideUse>) => {
  const { pause, queue, sql, worker } = t
  return sql<BeatRow>`
    with serves as materialized (
      select s.namespace, s.schema_identity, s.version
      from ${servedRows(t, serves)} s(namespace, schema_identity, version)
    ), me as (
      insert into ${worker} (id, serves, inside)
      values (${id}, ${JSON.stringify(serves)}::pg_catalog.jsonb, ${JSON.stringify(inside)}::pg_catalog.jsonb)
      on conflict (id) do update set serves = excluded.serves, inside = excluded.inside, beat_at = pg_catalog.now()
    ), silent as materialized (
      -- two workers that beat after a long silence find each other here
      select id from ${worker} where beat_at < pg_catalog.now() - ${sql.literal(remembered)} and id <> ${id}
      for update skip locked
    ), forgotten as (
      delete from ${worker} where id = any(array(select id from silent))
    ), kinds as (
      -- a walk over the distinct kinds, reasons and versions among the parked, not over the parked
      with recursive walk as (
        (select namespace, schema_identity, parked_for, schema_version from ${queue} where state = 'parked'
          order by namespace, schema_identity, parked_for, schema_version limit 1)
        union all
        select n.* from walk w cross join lateral (
          select namespace, schema_identity, parked_for, schema_version from ${queue} q
          where state = 'parked'
            and (q.namespace, q.schema_identity, q.parked_for, q.schema_version)
              > (w.namespace, w.schema_identity, w.parked_for, w.schema_version)
          order by namespace, schema_identity, parked_for, schema_version limit 1
        ) n
      )
      select w.*,
        -- the handler of the namespace comes before that of core, whatever that one reads
        coalesce((
          select s.version >= w.schema_version from serves s
          where s.schema_identity = w.schema_identity and s.namespace in (w.namespace, ${sql.literal(core)})
          order by s.namespace = ${sql.literal(core)} limit 1
        ), false) as served,
        exists (
          select from ${pause} p
          where p.namespace in ('*', w.namespace) and p.schema_identity in ('*', w.schema_identity)
        ) as paused
      from walk w
    ), unparked as (
      update ${queue} set state = 'ready', parked_for = null
      where seq in (
        select p.seq from kinds k cross join lateral (
          select seq from ${queue} q
          where q.state = 'parked' and q.namespace = k.namespace and q.schema_identity = k.schema_identity
            and q.parked_for = k.parked_for and q.schema_version = k.schema_version
          limit ${mostUnparked} for update skip locked
        ) p
        where not k.paused and (k.served or k.parked_for = 'paused')
      )
      returning 1
    )
    select (extract(epoch from pg_catalog.now()) * 1000.0)::pg_catalog.float8 as now, (select pg_catalog.count(*)::int from unparked) as unparked,
      (
        select pg_catalog.json_agg(distinct pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
          'namespace', o.namespace, 'schemaIdentity', o.schema_identity, 'above', s.version
        )))
        from ${worker} w cross join lateral ${servesOf(t, "w.serves")} o
        left join serves s on s.namespace = o.namespace and s.schema_identity = o.schema_identity
        where w.id <> ${id} and w.beat_at > pg_catalog.now() - ${sql.literal(alive)}
          -- both numeric: an operator of others could fit other types better
          and (s.version is null or coalesce(o.version, ${newest}) > s.version::pg_catalog.numeric)
      ) as elsewhere,
      (select pg_catalog.json_agg(pg_catalog.json_build_object('namespace', namespace, 'schemaIdentity', schema_identity)) from ${pause})
        as paused`
}

/** The verb. */
export const beat = ({ claiming, contact, countLedger, hint, settings, t }: Engine): ChunkStore["Service"]["beat"] => {
  const releasing = makeReleasing(t, settings.deadBlocksKey)
  const beatOnce = Effect.fnUntraced(function*(
    worker: string,
    serves: ReadonlyArray<Served>,
    inside: ReadonlyArray<InsideUse>
  ) {
    const asked = yield* Contact.here
    const [row] = yield* statement(t, worker, serves, inside)
    if (row !== undefined) contact.heard(row.now, asked)
    if ((yield* releasing) > 0) {
      claiming.lookAgain()
      yield* hint("chunks")
    }
    return { unparked: row?.unparked ?? 0, elsewhere: row?.elsewhere ?? [], paused: row?.paused ?? [] }
  }, t.client.statement)
  // after the beat, which they must not roll back: a role without the rights to them leaves them to others
  const ignoring = Effect.ignoreCause({ log: "Debug" })
  const upkeep = Effect.andThen(ignoring(t.client.statement(rollUp(t))), countLedger)
  const closing = makeClosing(t, hint("events"))
  return (worker, serves, inside = []) =>
    Effect.tap(beatOnce(worker, serves, inside), () => Effect.andThen(upkeep, closing))
}
