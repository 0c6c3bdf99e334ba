/**
 * The statement of the verb `persistInside`, and the parts that it shares with those of `insideOne.ts` and `recordInside.ts`.
 *
 * Ids are matched to chunks by their place: see `insert.ts`. If a trigger changes the number of rows, the statement fails.
 */
import type * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment, Statement } from "effect/sql/Statement"
import type { InsideRequest } from "../../ChunkStore.ts"
import type { Declaration } from "../../Declaration.ts"
import { maxObjectBytes, maxObjects } from "../../DomainObject.ts"
import * as Kind from "../../Kind.ts"
import { inRange, isFree, onlyAsked, type Range } from "./claimParts.ts"
import { type Compiled, identifier, literal, valueName } from "./declared.ts"
import { packedOf } from "./insidePacked.ts"
import type { Tables } from "./tables.ts"

/** How long it waits for a lock on the application's tables or the ledger. Meanwhile other workers skip its chunks. */
export const longestWait = "2s"

/**
 * How many of a call's outputs are taken here. To read one, the server decompresses all outputs of the call; a claim reads
 * the others of a call with many together.
 */
const mostOfCall = 4

/** The longest id of a row, in bytes. With a longer one the statement fails, and a claim takes the chunks. */
export const longestId = 1000

/** What the statement reports of its scan, as JSON text. */
export type Said = readonly [
  now: number,
  markTime: string | null,
  markSeq: string | null,
  ended: boolean,
  left:
    | readonly [namespace: string, schema: string, version: number, fingerprint: number | null, plain: boolean]
    | null,
  /** Whether a scheduled chunk is due and comes before the last chunk looked at. */
  scheduled: boolean,
  /** Whether a subscription receives ends of calls. */
  ends: boolean
]

/** A row of the answer. Without a chunk there is one row, with a null `packed`. */
export type Row = readonly [said: string, exact: number, packed: string | null]

/** Sends a statement that answers with such rows. */
export const rowsOf = (statement: Statement<unknown>) =>
  // the statement selects these columns
  statement.values as unknown as Effect.Effect<ReadonlyArray<Row>, SqlError>

/** The parameters of a statement that the store adds to a request: see the claim's. */
export interface Options {
  readonly ready: Range
  readonly judged: number
  readonly longest: number
}

/** A limit, as part of the text: see {@link readyOf}. */
const limitText = ({ sql }: Tables, limit: number) => sql.literal(String(Math.trunc(limit)))

/**
 * Locks the first chunks of the queue, at most `limit`, and marks those that are plain and of the kind: `ready`.
 *
 * The limit is part of the text: for a parameter the server expects a tenth of the queue, and then it makes a new plan for
 * each statement, which costs as much as the ledger's rows.
 */
export const readyOf = (t: Tables, request: InsideRequest, { judged, longest, ready }: Options, limit: number) => {
  const { queue, sql } = t
  const { declaration, kind: { fingerprint, namespace, schemaIdentity, version }, notIn } = request
  const hasKey = declaration.key.length > 0
  const plain = sql`ordering_key is null and lease_token is null and crashes = 0 and attempts = 0
        and position < ${mostOfCall} and bytes <= ${longest}`
  const inNamespace = namespace === Kind.core
    ? sql`namespace <> all(${notIn}::pg_catalog.text[])`
    : sql`namespace = ${namespace}`
  const served = sql`schema_identity = ${schemaIdentity} and ${inNamespace}`
  return sql`ready as materialized (
      select seq, rank, call_id, part, namespace, schema_identity, schema_version, position, bytes, fingerprint,
        recorded_at, ${plain} as plain${hasKey ? sql`, ${served} as served` : sql``},
        coalesce(${plain} and fingerprint = ${fingerprint} and schema_version = ${version} and ${served}, false) as mine
      from ${queue} q
      where state = 'ready' and ${isFree(t, { judged })} and ${inRange(t, "rank", ready)} and ${onlyAsked(t, request)}
      order by rank, seq limit ${limitText(t, limit)} for update skip locked
    )`
}

/**
 * Of the chunks `ready`, those that fit into the limit of bytes: `looked`.
 * `unbroken`: so are all chunks of the handler before it. Only a declaration with a key asks for that.
 */
const lookedOf = ({ sql }: Tables, { declaration, maxBytes }: InsideRequest) =>
  sql`looked as materialized (
      select * from (
        select rank, seq, call_id, part, namespace, position, recorded_at, mine, pg_catalog.row_number() over by_rank as n,
          pg_catalog.sum(bytes) over by_rank as total
          ${
    declaration.key.length > 0 ? sql`, pg_catalog.bool_and(mine or not served) over by_rank as unbroken` : sql``
  }
        from ready window by_rank as (order by rank, seq rows unbounded preceding)
      ) ranked where total <= ${maxBytes} or n = 1
    )`

/** The scheduled chunks that are due, as many as a claim examines: one that is due later may be more urgent. */
export const scheduledOf = (t: Tables, request: InsideRequest) =>
  t.sql`(
          select rank from ${t.queue} q where state = 'scheduled' and due_at <= pg_catalog.now() and ${
    onlyAsked(t, request)
  }
          order by due_at, seq limit ${limitText(t, request.limit)}
        )`

/**
 * The answers of the relation `chunks` as rows `g`, without those whose output was pruned or whose context lacks what the
 * declaration requires.
 * `offset 0` keeps the planner from joining: see the claim's `answer`.
 */
export const givenOf = ({ call, sql }: Tables, { declaration: { columns } }: InsideRequest, chunks: Fragment) => {
  const required = columns.flatMap(({ source }) => source._tag === "Context" && source.isRequired ? [source.key] : [])
  const hasContext = sql.literal(
    [...new Set(required)].map((name) => `
        and pg_catalog.jsonb_typeof(c.context::pg_catalog.jsonb -> ${literal(name)}::pg_catalog.text) = 'string'`).join(
      ""
    )
  )
  return sql`
        select r.n, r.seq, r.call_id, r.part, r.namespace, r.recorded_at, null::pg_catalog.text as ordering_key, c.service,
          c.correlation_id, pg_catalog.date_trunc('milliseconds', c.finished_at) as finished_at,
          nullif(c.context::pg_catalog.text, '{}') as told, c.context::pg_catalog.jsonb as context,
          c.output::pg_catalog.jsonb -> 'data'::pg_catalog.text as data
        from limited cross join (${chunks}) r
        cross join lateral (
          select outputs[r.position + 1] as output, service, correlation_id, finished_at, context
          from ${call} where call_id = r.call_id offset 0
        ) c
        where c.output is not null${hasContext} offset 0`
}

/**
 * The rows to be written, as `line`. A chunk without elements has one line, without a place. If an earlier row of the batch
 * has the same key, the chunk is left (`late`): one statement cannot write a row twice.
 */
export const linesOf = (t: Tables, { columns, elements, key }: Compiled, given: Fragment) => {
  const text = t.sql.literal
  // where no row is written, no default of the table is called, and no domain refuses its null
  const ofRow = (place: string, value: string) =>
    elements === "" ? value : `case when ${place} is not null then ${value} end`
  const valueOf = ({ name, value }: Compiled["columns"][number]) =>
    `${ofRow("i.place", value)} as ${valueName(columns, name)}`
  const values = columns.map(valueOf).join(", ")
  // a left join keeps the chunks without elements
  const joined = elements === "" ? "" : `${elements.replace(/^cross join lateral/, "left join lateral")} on true`
  const made = t.sql`
      select g.n, g.seq, g.call_id, g.part, g.namespace, g.recorded_at, g.service, g.correlation_id, g.told,
        ${text(elements === "" ? "1" : "i.place")} as place, ${text(values)}
      from (${given}
      ) g ${text(joined)}`
  return key.length === 0
    ? t.sql`line as materialized (${made}
    )`
    : t.sql`turned as materialized (
      select *, pg_catalog.row_number() over (
        partition by ${text(key.map((one) => ofRow("place", one)).join(", "))}, place is null order by n, place
      ) as turn from (${made}
      ) made
    ), late as materialized (
      select distinct n from turned where turn > 1 and place is not null
    ), line as materialized (
      select * from turned where n not in (select n from late)
    )`
}

/**
 * Writes the rows, and gives each line its id: Postgres returns the rows in the order in which they were selected. `settled`
 * has the chunks, each with its ids and the objects that were made of it. The full join keeps an id without a line, and a
 * line without an id, for {@link exactOf}.
 */
export const writtenOf = (t: Tables, { object }: Declaration, compiled: Compiled) => {
  const { columns, elements, id, onConflict, table } = compiled
  const made = `pg_catalog.jsonb_build_object('type', ${literal(object)}::pg_catalog.text, 'id', id)`
  const chunk = "n, seq, call_id, part, namespace, recorded_at, service, correlation_id, told"
  const settled = elements === ""
    ? `select ${chunk}, id as ids, pg_catalog.jsonb_build_array(${made}) as objects from named`
    : `select c.*, o.ids, coalesce(o.objects, '[]'::pg_catalog.jsonb) as objects
      from (select ${chunk} from line where place is null or place = 1) c
      full join (
        select n, pg_catalog.json_agg(id order by place) as ids, pg_catalog.jsonb_agg(${made} order by place) as objects
        from named group by n
      ) o on o.n = c.n`
  return t.sql.literal(`written as (
      insert into ${table} (${columns.map(({ name }) => identifier(name)).join(", ")}) overriding system value
      select ${columns.map((_, index) => `c${index}`).join(", ")} from line where place is not null order by n, place
      ${onConflict}
      returning ${identifier(id)}::pg_catalog.text as id
    ), named as materialized (
      select l.*, w.id
      from (
        select ${elements === "" ? chunk : "n, place"}, pg_catalog.row_number() over (order by n, place) as k
        from line where place is not null
      ) l
      full join (select id, pg_catalog.row_number() over () as k from written) w on w.k = l.k
    ), settled as materialized (
      ${settled}
    )`)
}

/**
 * Fails the statement if not all chunks of the relation `of` are settled, if ids and rows do not match, or if they exceed
 * the limits of the ledger; 1 otherwise.
 */
export const exactOf = ({ sql }: Tables, { elements }: Compiled, of: "answer" | "gone") => {
  const bounded = elements === "" ? "" : `
        and not exists (
          select from settled
          where pg_catalog.jsonb_array_length(objects) > ${maxObjects}
            or pg_catalog.octet_length(objects::pg_catalog.text) > ${maxObjectBytes}
        )`
  return sql.literal(`1 / (
        (select pg_catalog.count(*) from ${of}) = (select pg_catalog.count(*) from settled)
        and not exists (
          select from named where n is null or id is null or id = '' or pg_catalog.octet_length(id) > ${longestId}
        )${bounded}
      )::int`)
}

/** The statement for any number of chunks, each with any number of rows. */
export const persistMany = (t: Tables, request: InsideRequest, compiled: Compiled, options: Options) => {
  const { callSubscription, ledger, queue, sql } = t
  const { declaration, handler, handlerVersion, kind } = request
  // with a key, none behind a chunk of the handler that is left to the claim: the earlier would overwrite the later
  const unbroken = declaration.key.length === 0 ? sql`` : sql` and unbroken`
  const given = givenOf(t, request, sql`select * from looked where mine${unbroken}`)
  return rowsOf(sql`
    with limited as materialized (
      select pg_catalog.set_config('lock_timeout', ${longestWait}, true) as wait
    ), ${readyOf(t, request, options, request.limit)}, ${lookedOf(t, request)}, ${linesOf(t, compiled, given)}, ${
    writtenOf(t, declaration, compiled)
  }, gone as (
      delete from ${queue} where seq = any(array(select seq from settled)) returning 1
    ), kept as (
      insert into ${ledger} (
        seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects
      )
      select seq, call_id, ${kind.schemaIdentity}, part, namespace, ${kind.version}::int, ${handler},
        ${handlerVersion}::int, objects
      from settled order by n
    ), last as materialized (
      select rank, seq, (
        select pg_catalog.count(*) < ${
    limitText(t, request.limit)
  } and pg_catalog.count(*) = (select pg_catalog.count(*) from looked) from ready
      ) as ended
      from looked order by n desc limit 1
    ), said as materialized (
      select pg_catalog.json_build_array(
        extract(epoch from pg_catalog.now()) * 1000.0,
        case when last.ended then last.rank - interval '1 second' else last.rank end,
        case when last.ended then '0' else last.seq::pg_catalog.text end,
        coalesce(last.ended, true),
        case when (select pg_catalog.count(*) from looked) > (select pg_catalog.count(*) from settled) then (
          select pg_catalog.json_build_array(namespace, schema_identity, schema_version, fingerprint, plain)
          from ready where seq in (select seq from looked) and seq not in (select seq from settled)
          order by rank, seq limit 1
        ) end,
        exists (select from ${scheduledOf(t, request)} due where coalesce(last.ended, true) or due.rank <= last.rank),
        exists (select from ${callSubscription})
      )::pg_catalog.text as text
      from (values (1)) one left join last on true
    )
    select said.text, ${exactOf(t, compiled, "gone")}, packed.text from said left join (${packedOf(t, request)}
    ) packed on true`)
}
