/**
 * The ways in which a database can have grown. The rows are made inside the server, as Sluice would have left them.
 */
import type { Sql } from "../harness/database.ts"
import type { Options } from "../systems/system.ts"

/** A way of having grown. */
export interface Case {
  readonly name: string
  readonly about: string
  /** How many rows, keys or chunks at full size. */
  readonly size: number
  /** Whether `--scale` leaves the number unchanged. */
  readonly fixed?: boolean
  /** Makes them. */
  readonly grow?: (sql: Sql, size: number) => Promise<unknown>
  /** SQL that restores, before each round, what a round uses up. */
  readonly renew?: string
  /** Options for the records that are drained meanwhile. */
  readonly options?: (size: number) => Options
  /** The share of the records that is drained. Default: all. */
  readonly share?: number
}

/** Ids of some years ago: UUIDv7, four in a millisecond. */
const idFunction = `
  create function bench.grown_id(n bigint) returns text language sql immutable as $$
    select substr(t, 1, 8) || '-' || substr(t, 9, 4) || '-7' || substr(m, 1, 3) || '-8' || substr(m, 4, 3) || '-'
      || substr(m, 7, 12)
    from (select lpad(to_hex(1600000000000 + n / 4), 12, '0') as t, md5(n::text) as m) made
  $$`

/** The kind that is drained, and one that nobody serves. */
const drained = "'chatlab', 'schemas.chatlab.standardized_patient.patient-reply'"
const elsewhere = "'elsewhere', 'schemas.elsewhere.ward.note'"

const calls = (sql: Sql, count: number) =>
  sql(
    `insert into sluice.service_call (
       call_id, namespace, service, correlation_id, status, outputs, finished_at
     )
     select id, 'chatlab', 'services.chatlab.standardized_patient.generate-reply', id, 'succeeded',
       array['{"data":null}'::json], now()
     from generate_series(1, $1::bigint) n, bench.grown_id(n) id`,
    [count]
  )

/** Rows of the queue: `select` gives state, parked_for, attempts, due_at, ordering_key and kind for number n. */
const queue = (sql: Sql, count: number, select: string) =>
  sql(
    `insert into sluice.chunk_queue (
       state, parked_for, attempts, due_at, rank, ordering_key, namespace, schema_identity, schema_version, bytes, call_id
     )
     select g.state, g.parked_for, g.attempts, g.due_at, g.due_at, g.ordering_key, g.namespace, g.schema_identity, 1, 1000,
       bench.grown_id(n)
     from generate_series(1, $1::bigint) n
     cross join lateral (select ${select}) g(
       state, parked_for, attempts, due_at, ordering_key, namespace, schema_identity
     )
     order by n`,
    [count]
  )

const history = async (sql: Sql, size: number) => {
  await calls(sql, size)
  await sql(
    `insert into sluice.persisted_chunk (
       call_id, schema_identity, namespace, schema_version, handler, handler_version, objects
     )
     select bench.grown_id(n), 'schemas.chatlab.standardized_patient.patient-reply', 'chatlab', 1,
       'chatlab/patient-reply', 1, jsonb_build_array(jsonb_build_object('type', 'bench.Message', 'id', n::text))
     from generate_series(1, $1::bigint) n`,
    [size]
  )
}

const parked = async (sql: Sql, size: number) => {
  await calls(sql, size)
  await queue(sql, size, `'parked', 'no-handler', 0, now(), null, ${elsewhere}`)
}

const later = async (sql: Sql, size: number) => {
  await calls(sql, size)
  await queue(sql, size, `'scheduled', null, 0, now() + interval '1 day' + n * interval '10 ms', null, ${drained}`)
}

const failures = (sql: Sql, size: number) =>
  sql(
    `insert into sluice.chunk_failure (call_id, schema_identity, attempt, handler, kind, message)
     select bench.grown_id(n), 'schemas.chatlab.standardized_patient.patient-reply', 1, 'chatlab/patient-reply',
       'failed', 'the ward is closed'
     from generate_series(1, $1::bigint) n`,
    [size]
  )

const retrying = async (sql: Sql, size: number) => {
  await calls(sql, size)
  await failures(sql, size)
  await queue(sql, size, `'scheduled', null, 1, now() + interval '1 hour' + n * interval '10 ms', null, ${drained}`)
}

const dead = async (sql: Sql, size: number) => {
  await calls(sql, size)
  await failures(sql, size)
  await sql(
    `insert into sluice.dead_letter (
       call_id, schema_identity, seq, namespace, schema_version, position, bytes, priority, reason, handler, message,
       attempts, crashes, recorded_at
     )
     select bench.grown_id(n), 'schemas.chatlab.standardized_patient.patient-reply', nextval('sluice.chunk_seq'),
       'chatlab', 1, 0, 1000, 0, 'exhausted', 'chatlab/patient-reply', 'the ward is closed', 10, 0, now()
     from generate_series(1, $1::bigint) n`,
    [size]
  )
}

/** Of each key a chunk that waits for its retry, and one behind it. */
const heldKeys = async (sql: Sql, size: number) => {
  await calls(sql, size * 2)
  await queue(
    sql,
    size * 2,
    `case when n <= ${size} then 'scheduled' else 'waiting' end, null, (n <= ${size})::int,
     now() + case when n <= ${size} then interval '1 hour' else interval '0' end, 'held-' || n % ${size}, ${drained}`
  )
}

/** One key: its first chunk waits for its retry, all others are behind it. */
const heldKey = (state: string) => async (sql: Sql, size: number) => {
  await calls(sql, size)
  await queue(
    sql,
    size,
    `case when n = 1 then 'scheduled' else '${state}' end, null, (n = 1)::int,
     now() + case when n = 1 then interval '1 hour' else interval '0' end, 'held', ${drained}`
  )
}

/** The cases. */
export const cases: ReadonlyArray<Case> = [
  { name: "ledger-1e4", about: "ledger rows", size: 1e4, grow: history },
  { name: "ledger-1e6", about: "ledger rows", size: 1e6, grow: history },
  { name: "ledger-1e7", about: "ledger rows", size: 1e7, grow: history },
  { name: "parked", about: "parked chunks", size: 1e6, grow: parked },
  { name: "not-before", about: "chunks not before tomorrow", size: 1e6, grow: later },
  { name: "dead", about: "dead letters", size: 1e6, grow: dead },
  { name: "retrying", about: "chunks that wait for their retry", size: 1e5, grow: retrying },
  { name: "keys-held", about: "keys held up, two chunks each", size: 1e5, grow: heldKeys },
  { name: "key-held", about: "chunks of one key, put aside", size: 1e5, grow: heldKey("waiting") },
  {
    // as they were recorded: the drain has to put them aside first
    name: "key-held-new",
    about: "chunks of one key, to be put aside",
    size: 1e5,
    grow: heldKey("ready"),
    renew: "update sluice.chunk_queue set state = 'ready' where state = 'waiting'"
  },
  {
    name: "keys-each",
    about: "keys held up; each record drained has its own key",
    size: 1e5,
    grow: heldKeys,
    options: (size) => ({ keys: size })
  },
  { name: "keys-100", about: "keys of the records drained", size: 100, fixed: true, options: () => ({ keys: 100 }) },
  {
    name: "key-one",
    about: "key of the records drained",
    size: 1,
    fixed: true,
    options: () => ({ keys: 1 }),
    // one after the other: fewer are enough
    share: 0.1
  }
]

/** Makes a database grow, and analyzes it for the planner. */
export const grow = async (sql: Sql, { grow }: Case, size: number): Promise<void> => {
  if (grow === undefined) return
  await sql(idFunction)
  await grow(sql, size)
  await sql("vacuum analyze")
}
