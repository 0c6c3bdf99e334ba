/**
 * Erases calls in portions with one commit each. A walk in the order of the call ids finds them, each call once: no column
 * of a subject is indexed, for it is looked for seldom.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Fragment } from "effect/sql/Statement"
import { type Erased, Erasure, type ErasureReason, ErasureRecord, type Subject } from "../../Erasure.ts"
import { storableText } from "../../internal/storableText.ts"
import { asStoreError } from "./errors.ts"
import { iso, objects, readRows } from "./json.ts"
import { checkReadCommitted } from "./readCommitted.ts"
import type { Tables } from "./tables.ts"
import { keysOf, type OrderingKey, wakeFollowers } from "./waiting.ts"
import { unwatched } from "./watch.ts"

/** How many calls are looked at in one statement, and so the most that one commit erases. */
const portionSize = 500

/** A conflict with a worker that settles the same chunks passes. */
const again = { times: 5, schedule: Schedule.spaced("100 millis") }

/** The condition for the subject's calls `c`. Texts of the tables hold no NUL, and the server takes none as a parameter. */
const isOf = ({ sql }: Tables, subject: Subject): Fragment => {
  const texts = Object.values(subject)
  if (texts.some((text) => text.includes("\0"))) return sql`false`
  switch (subject._tag) {
    case "Call":
      return sql`c.call_id = ${subject.callId}`
    case "Correlation":
      return sql`c.correlation_id = ${subject.correlationId}`
    case "Context":
      return sql`c.context ->> ${subject.key}::pg_catalog.text = ${subject.value}`
  }
}

/** The result of a portion of the walk: the next one begins after `last`. */
interface Found {
  readonly looked: number
  readonly last: string | null
  readonly ids: ReadonlyArray<string> | null
}

/** The subject's calls among the next ones. Takes no locks. */
const find = (t: Tables, subject: Subject, after: string) => {
  const { call, sql } = t
  const next = subject._tag === "Call" ? isOf(t, subject) : sql`c.call_id > ${after}`
  return sql<Found>`
    with looked as materialized (
      select c.call_id, c.erasure is null and ${isOf(t, subject)} as found from ${call} c
      where ${next} order by c.call_id limit ${portionSize}
    )
    select pg_catalog.count(*)::int as looked, pg_catalog.max(call_id) as last,
      pg_catalog.array_agg(call_id order by call_id) filter (where found) as ids
    from looked`
}

/**
 * Locks the calls, and returns those that are still the subject's. Whoever records or runs one of them waits from here on,
 * and then finds it erased. In the order in which recording locks them, so the two cannot deadlock.
 */
const lock = (t: Tables, subject: Subject, ids: ReadonlyArray<string>) =>
  t.sql<{ call_id: string }>`
    select call_id from ${t.call} c
    where call_id = any(${ids}::pg_catalog.text[]) and erasure is null and ${isOf(t, subject)}
    order by call_id for update`

/** What one look at the tables found, and deleted. */
interface Swept {
  /** Chunks and dead letters that this statement saw. */
  readonly seen: number
  readonly chunks: number
  readonly letters: number
  readonly failures: number
  readonly freed: ReadonlyArray<OrderingKey> | null
}

/**
 * Deletes what it sees of the calls' chunks. It waits for workers that settle one of them. Where such a worker moves the
 * chunk meanwhile, from the queue to the dead letters or back, this statement misses it: it sees the tables as they were
 * at its begin. So it is repeated until it sees nothing: nobody adds chunks to a call that is locked.
 */
const sweep = ({ attempt, dead, failure, queue, skip, sql }: Tables, ids: ReadonlyArray<string>) => {
  const ofThem = sql`call_id = any(${ids}::pg_catalog.text[])`
  return sql<Swept>`
    with held as materialized (
      select seq from ${queue} where ${ofThem} order by seq for update
    ), gone as (
      delete from ${queue} where seq in (select seq from held) returning namespace, ordering_key
    ), buried as materialized (
      select call_id, schema_identity, part from ${dead} where ${ofThem} order by seq for update
    ), unburied as (
      delete from ${dead} d using buried b
      where d.call_id = b.call_id and d.schema_identity = b.schema_identity and d.part = b.part
      returning d.namespace, d.ordering_key
    ), forgotten as (
      delete from ${failure} where ${ofThem} returning 1
    ), answers as (
      update ${attempt} set text = null, error = null where ${ofThem} and (text is not null or error is not null)
    ), skipped as (
      update ${skip} set last_error = null where ${ofThem} and last_error is not null
    ), freed as (
      select namespace, ordering_key from gone union all select namespace, ordering_key from unburied
    )
    select ((select pg_catalog.count(*) from ${queue} where ${ofThem}) + (select pg_catalog.count(*) from ${dead} where ${ofThem}))::int as seen,
      (select pg_catalog.count(*)::int from gone) as chunks, (select pg_catalog.count(*)::int from unburied) as letters,
      (select pg_catalog.count(*)::int from forgotten) as failures,
      (
        select pg_catalog.json_agg(distinct pg_catalog.jsonb_build_object('namespace', namespace, 'orderingKey', ordering_key))
        from freed where ordering_key is not null
      ) as freed`
}

/** Empties the calls. A run that is under way loses its hold: what it answers is not recorded. */
const empty = ({ call, sql }: Tables, ids: ReadonlyArray<string>, erasure: string) =>
  sql`
    update ${call} set erasure = ${erasure}::bigint, input = null, outputs = null, details = null, error = null,
      trace = null, context = '{}', correlation_id = call_id, ordering_key = null,
      status = case status when 'running' then 'failed' else status end, run_token = null, run_until = null
    where call_id = any(${ids}::pg_catalog.text[])`

/** The application's rows of these calls. Asked last, so that it sees what a worker committed while `sweep` waited. */
const objectsOf = ({ ledger, sql }: Tables, ids: ReadonlyArray<string>) =>
  sql<{ objects: Erased["objects"] }>`
    select ${sql.literal(objects("l.objects"))} as objects from ${ledger} l
    where l.call_id = any(${ids}::pg_catalog.text[]) order by l.xact, l.seq`.pipe(
    Effect.map((rows) => rows.flatMap((row) => row.objects))
  )

/** What a preview counts. */
const count = ({ dead, failure, queue, sql }: Tables, ids: ReadonlyArray<string>) => {
  const ofThem = sql`call_id = any(${ids}::pg_catalog.text[])`
  return sql<Omit<Swept, "seen" | "freed">>`
    select (select pg_catalog.count(*)::int from ${queue} where ${ofThem}) as chunks,
      (select pg_catalog.count(*)::int from ${dead} where ${ofThem}) as letters,
      (select pg_catalog.count(*)::int from ${failure} where ${ofThem}) as failures`
}

const nothing: Erased = { calls: 0, chunks: 0, deadLetters: 0, failures: 0, objects: [] }

const sum = (a: Erased, b: Erased): Erased => ({
  calls: a.calls + b.calls,
  chunks: a.chunks + b.chunks,
  deadLetters: a.deadLetters + b.deadLetters,
  failures: a.failures + b.failures,
  objects: [...a.objects, ...b.objects]
})

const record = `
  pg_catalog.json_build_object(
    'id', e.id, 'begunAt', ${iso("e.begun_at")}, 'finishedAt', ${iso("e.finished_at")}, 'by', e.erased_by,
    'because', e.because, 'subject', e.subject, 'contextKey', e.context_key, 'calls', e.calls, 'chunks', e.chunks,
    'deadLetters', e.dead_letters, 'failures', e.failures
  )`

/** The service on Postgres. Runs `moved` when chunks may have become claimable. */
export const make = (t: Tables, moved: Effect.Effect<void>): Erasure["Service"] => {
  const { client, erasure, sql } = t

  /** Puts a portion on record: the first one begins the erasure's row, in its own transaction. */
  const note = (id: string | undefined, subject: Subject, reason: ErasureReason, part: Erased) =>
    Effect.map(
      id === undefined
        ? sql<{ id: string }>`
          insert into ${erasure} (erased_by, because, subject, context_key, calls, chunks, dead_letters, failures)
          values (${storableText(reason.by)}, ${storableText(reason.because)}, ${subject._tag.toLowerCase()},
            ${subject._tag === "Context" ? subject.key : null}, ${part.calls}, ${part.chunks}, ${part.deadLetters},
            ${part.failures})
          returning id::pg_catalog.text`
        : sql<{ id: string }>`
          update ${erasure} set calls = calls + ${part.calls}, chunks = chunks + ${part.chunks},
            dead_letters = dead_letters + ${part.deadLetters}, failures = failures + ${part.failures}
          where id = ${id}::bigint returning id::pg_catalog.text`,
      ([row]) => row!.id
    )

  /** Erases those of these calls that are still the subject's. Returns the erasure's id and how much it was. */
  const erasePortion = (
    id: string | undefined,
    subject: Subject,
    reason: ErasureReason,
    found: ReadonlyArray<string>
  ) =>
    client.transaction(({ isNested }) =>
      unwatched(Effect.gen(function*() {
        if (isNested) yield* checkReadCommitted(t)
        const ids = (yield* lock(t, subject, found)).map((row) => row.call_id)
        if (ids.length === 0) return { id, part: nothing }
        let part: Erased = { ...nothing, calls: ids.length }
        const freed: Array<OrderingKey> = []
        while (true) {
          const [swept] = yield* sweep(t, ids)
          const { chunks, failures, letters: deadLetters } = swept!
          part = sum(part, { ...nothing, chunks, deadLetters, failures })
          freed.push(...swept!.freed ?? [])
          if (swept!.seen === 0) break
        }
        const own = yield* note(id, subject, reason, part)
        yield* empty(t, ids, own)
        // must be a separate statement: see `wakeFollowers`
        if (freed.length > 0) yield* wakeFollowers(t, keysOf(freed), part.chunks + part.deadLetters)
        if (freed.length > 0) yield* sql.afterCommit(moved)
        return { id: own, part: { ...part, objects: yield* objectsOf(t, ids) } }
      }))
    ).pipe(
      asStoreError,
      Effect.retry({ ...again, while: (error) => error._tag === "ChunkStoreError" && error.transient })
    )

  /** Walks over the subject's calls. */
  const walk = Effect.fnUntraced(function*<E, R>(
    subject: Subject,
    step: (ids: ReadonlyArray<string>) => Effect.Effect<Erased, E, R>
  ) {
    let after = ""
    let total = nothing
    while (true) {
      const [found] = yield* client.statement(find(t, subject, after))
      const { ids, last, looked } = found!
      if (ids !== null) total = sum(total, yield* step(ids))
      if (looked < portionSize || last === null) return total
      after = last
    }
  })

  return Erasure.of({
    erase: Effect.fnUntraced(function*(subject, reason) {
      let id: string | undefined
      const total = yield* walk(subject, (ids) =>
        Effect.map(erasePortion(id, subject, reason, ids), (done) => {
          id = done.id
          return done.part
        }))
      if (id !== undefined) {
        yield* client.statement(
          sql`update ${erasure} set finished_at = pg_catalog.now() where id = ${id}::bigint`
        )
      }
      return total
    }),
    preview: (subject) =>
      walk(subject, (ids) =>
        client.statement(
          Effect.map(Effect.all([count(t, ids), objectsOf(t, ids)]), ([[counted], objects]): Erased => ({
            calls: ids.length,
            chunks: counted!.chunks,
            deadLetters: counted!.letters,
            failures: counted!.failures,
            objects
          }))
        )),
    list: ({ limit }) =>
      sql<{ row: unknown }>`
        select ${sql.literal(record)} as row from ${erasure} e order by e.id desc limit ${limit}`.pipe(
        readRows(ErasureRecord),
        client.statement
      )
  })
}
