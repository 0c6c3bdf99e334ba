/**
 * Erases calls in portions. Each portion first deletes the calls' chunks, in commits of their own, until none is left;
 * then one commit empties the calls. A walk over all calls in the order of their ids finds the subject's: correlation ids
 * and contexts have no index, because erasures are rare.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import { ChunkStoreError } from "../../ChunkStore.ts"
import { type Erased, Erasure, type ErasureReason, ErasureRecord, type Subject } from "../../Erasure.ts"
import { storableText } from "../../internal/storableText.ts"
import { Verb } from "../verbs.ts"
import { asStoreError } from "./errors.ts"
import { iso, objects, readRows } from "./json.ts"
import { checkReadCommitted } from "./readCommitted.ts"
import type { Tables } from "./tables.ts"
import { followersOf, type Freed, freedOf } from "./waiting.ts"
import { unwatched } from "./watch.ts"

/** How many calls are looked at in one statement, and so the most that one commit erases. */
const portionSize = 500

/** How often a portion is tried again while other transactions hold a chunk, as `once` does while its effect runs. */
const whileHeld = { times: 100, schedule: Schedule.spaced("100 millis") }

/**
 * Escapes that the type json accepts and the server does not read: NUL, and half of a surrogate pair. Sluice records none,
 * but contexts may have been written by others.
 */
const unreadable = String.raw`\\u0000|\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]..`

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
      // the server reads no field of a context in which another one has such an escape
      return sql`case when pg_catalog.strpos(c.context::pg_catalog.text, ${"\\u"}) = 0 then c.context
        else pg_catalog.regexp_replace(c.context::pg_catalog.text, ${unreadable}, ${"\\ufffd"}, 'g')::pg_catalog.json
      end ->> ${subject.key}::pg_catalog.text = ${subject.value}`
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
 * Locks the calls, and returns those that are still the subject's. From here on, recording or running one of them waits,
 * and then finds it erased. Locks in the same order as recording, so that the two cannot deadlock.
 */
const lock = (t: Tables, subject: Subject, ids: ReadonlyArray<string>) =>
  t.sql<{ call_id: string }>`
    select call_id from ${t.call} c
    where call_id = any(${ids}::pg_catalog.text[]) and erasure is null and ${isOf(t, subject)}
    order by call_id for update`

/** What a sweep has locked. */
interface Locked {
  readonly ids: ReadonlyArray<string> | null
  readonly chunks: ReadonlyArray<bigint> | null
  readonly letters: ReadonlyArray<bigint> | null
  readonly freed: ReadonlyArray<Freed> | null
}

/** Locks the chunks and letters of the calls, but for those that another transaction has locked. */
const lockFree = (t: Tables, subject: Subject, ids: ReadonlyArray<string>) => {
  const { call, dead, queue, sql } = t
  const ofThem = sql`call_id = any(array(select call_id from own))`
  return sql<Locked>`
    with own as materialized (
      -- a failed call may have been recorded again meanwhile, with the context of another subject
      select call_id from ${call} c
      where call_id = any(${ids}::pg_catalog.text[]) and erasure is null and ${isOf(t, subject)}
    ), held as materialized (
      select seq, namespace, ordering_key from ${queue} where ${ofThem} order by seq for update skip locked
    ), buried as materialized (
      select seq, namespace, ordering_key from ${dead} where ${ofThem} order by seq for update skip locked
    ), free as (
      select * from held union all select * from buried
    )
    select (select pg_catalog.array_agg(call_id) from own) as ids,
      (select pg_catalog.array_agg(seq) from held) as chunks, (select pg_catalog.array_agg(seq) from buried) as letters,
      ${freedOf(t, sql`free`)} as freed`
}

/** How much a sweep deleted. */
interface Swept {
  readonly chunks: number
  readonly letters: number
  readonly failures: number
}

/**
 * Deletes what is locked, with the failures of the calls, and wakes the chunks behind it. Must be a separate statement after
 * {@link lockFree}: see `wakeFollowers`.
 *
 * It waits for no chunk. A worker that settles a chunk holds it while it wakes those behind it, and so does `once`; either
 * would wait for what is deleted here. So where a follower is locked (`busy`), nothing of its key is deleted yet, and the
 * sweep is repeated until {@link isClear}.
 */
const sweep = (t: Tables, { chunks, freed, ids, letters }: Locked) => {
  const { dead, failure, queue, sql } = t
  const [held, buried] = [chunks ?? [], letters ?? []]
  const ofThem = sql`call_id = any(${ids ?? []}::pg_catalog.text[])`
  const isHeld = (of: string) => sql`${sql.literal(of)}seq = any(${held}::bigint[])`
  const isFree = sql`not exists (
        select from busy b where b.namespace = k.namespace and b.ordering_key = k.ordering_key
      )`
  const followers = freed === null
    ? sql`select null::bigint as seq, null::pg_catalog.text as namespace, null::pg_catalog.text as ordering_key where false`
    : followersOf(t, freed, { gone: held.length + buried.length, without: sql`not (${isHeld("w.")})` })
  return sql<Swept>`
    with behind as materialized (${followers}
    ), picked as materialized (
      select seq from ${queue} where state = 'waiting' and seq = any(array(select seq from behind))
      order by seq for update skip locked
    ), busy as materialized (
      select namespace, ordering_key from behind where seq not in (select seq from picked)
    ), woken as (
      update ${queue} set state = 'ready' where seq = any(array(select seq from picked))
    ), gone as (
      delete from ${queue} k where ${isHeld("k.")} and ${isFree} returning 1
    ), unburied as (
      delete from ${dead} k where ${ofThem} and k.seq = any(${buried}::bigint[]) and ${isFree} returning 1
    ), forgotten as (
      delete from ${failure} where ${ofThem} returning 1
    )
    select (select pg_catalog.count(*)::int from gone) as chunks, (select pg_catalog.count(*)::int from unburied) as letters,
      (select pg_catalog.count(*)::int from forgotten) as failures`
}

/**
 * Whether the calls, which are locked, have neither chunks nor letters. A chunk that another transaction moves, from the
 * queue to the letters or back, is seen at its old place until that commits, and no session adds chunks to a call that is
 * locked. So what is clear in one snapshot stays so, and no failure is yet to come.
 */
const isClear = ({ dead, queue, sql }: Tables, ids: ReadonlyArray<string>) => {
  const ofThem = sql`call_id = any(${ids}::pg_catalog.text[])`
  return Effect.map(
    sql<{ clear: boolean }>`
      select not exists (select from ${queue} where ${ofThem}) and not exists (select from ${dead} where ${ofThem}) as clear`,
    ([row]) => row?.clear === true
  )
}

/** Deletes what else the tables hold of these calls, and returns how many failures that were. */
const forgetRest = ({ attempt, failure, skip, sql }: Tables, ids: ReadonlyArray<string>) => {
  const ofThem = sql`call_id = any(${ids}::pg_catalog.text[])`
  return Effect.map(
    sql<{ failures: number }>`
      with forgotten as (
        delete from ${failure} where ${ofThem} returning 1
      ), answers as (
        update ${attempt} set text = null, error = null where ${ofThem} and (text is not null or error is not null)
      ), skipped as (
        update ${skip} set last_error = null where ${ofThem} and last_error is not null
      )
      select pg_catalog.count(*)::int as failures from forgotten`,
    ([row]) => row?.failures ?? 0
  )
}

/** Empties the calls. A run that is under way loses its hold: what it answers is not recorded. */
const empty = ({ call, sql }: Tables, ids: ReadonlyArray<string>, erasure: string) =>
  sql`
    update ${call} set erasure = ${erasure}::bigint, input = null, outputs = null, details = null, error = null,
      trace = null, context = '{}', correlation_id = call_id, ordering_key = null,
      status = case status when 'running' then 'failed' else status end, run_token = null, run_until = null
    where call_id = any(${ids}::pg_catalog.text[])`

/** The application's rows of these calls. Read last, when no worker holds a chunk of them any more. */
const objectsOf = ({ ledger, sql }: Tables, ids: ReadonlyArray<string>) =>
  sql<{ objects: Erased["objects"] }>`
    select ${sql.literal(objects("l.objects"))} as objects from ${ledger} l
    where l.call_id = any(${ids}::pg_catalog.text[]) order by l.xact, l.seq`.pipe(
    Effect.map((rows) => rows.flatMap((row) => row.objects))
  )

/** What a preview counts. */
const count = ({ dead, failure, queue, sql }: Tables, ids: ReadonlyArray<string>) => {
  const ofThem = sql`call_id = any(${ids}::pg_catalog.text[])`
  return sql<Swept>`
    select (select pg_catalog.count(*)::int from ${queue} where ${ofThem}) as chunks,
      (select pg_catalog.count(*)::int from ${dead} where ${ofThem}) as letters,
      (select pg_catalog.count(*)::int from ${failure} where ${ofThem}) as failures`
}

/** Another transaction holds a chunk of one of the calls. */
class StillHeld extends Data.TaggedError("StillHeld") {}

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

/** Erases the calls of a portion. Runs `moved` when chunks may have become claimable. */
const makePortion = (t: Tables, moved: Effect.Effect<void>) => {
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

  const inTransaction = <A>(work: (isNested: boolean) => Effect.Effect<A, ChunkStoreError | SqlError>) =>
    client.transaction(({ isNested }) =>
      unwatched(Effect.andThen(isNested ? checkReadCommitted(t) : Effect.void, work(isNested)))
    ).pipe(asStoreError)

  /** Deletes the chunks of these calls that are free. */
  const sweepOnce = (id: string | undefined, subject: Subject, reason: ErasureReason, ids: ReadonlyArray<string>) =>
    inTransaction(Effect.fnUntraced(function*(isNested) {
      // the chunks stay locked until the caller's commit, and calls are locked before chunks
      if (isNested) yield* lock(t, subject, ids)
      const [locked] = yield* lockFree(t, subject, ids)
      const [swept] = yield* sweep(t, locked!)
      const { chunks, failures, letters: deadLetters } = swept!
      const part: Erased = { ...nothing, chunks, deadLetters, failures }
      const own = chunks + deadLetters + failures === 0 ? id : yield* note(id, subject, reason, part)
      if (locked!.freed !== null) yield* sql.afterCommit(moved)
      return { id: own, part }
    }))

  /** Empties the calls that are still the subject's. Undefined if a chunk of one is still there. */
  const finish = (id: string | undefined, subject: Subject, reason: ErasureReason, found: ReadonlyArray<string>) =>
    inTransaction(Effect.fnUntraced(function*() {
      const ids = (yield* lock(t, subject, found)).map((row) => row.call_id)
      if (ids.length === 0) return { id, part: nothing }
      if (!(yield* isClear(t, ids))) return undefined
      const part: Erased = { ...nothing, calls: ids.length, failures: yield* forgetRest(t, ids) }
      const own = yield* note(id, subject, reason, part)
      yield* empty(t, ids, own)
      return { id: own, part: { ...part, objects: yield* objectsOf(t, ids) } }
    }))

  /**
   * Erases those of these calls that are still the subject's: their chunks first, in commits of their own, so that a second
   * erasure of the subject continues where this one was cut off. Returns the erasure's id and what it deleted.
   */
  return Effect.fnUntraced(function*(
    id: string | undefined,
    subject: Subject,
    reason: ErasureReason,
    ids: ReadonlyArray<string>
  ) {
    let own = id
    let total = nothing
    const step = Effect.gen(function*() {
      const swept = yield* sweepOnce(own, subject, reason, ids)
      own = swept.id
      total = sum(total, swept.part)
      const done = yield* finish(own, subject, reason, ids)
      if (done === undefined) return yield* new StillHeld()
      own = done.id
      total = sum(total, done.part)
    })
    yield* Effect.retry(step, { ...whileHeld, while: (error) => error._tag === "StillHeld" || error.transient }).pipe(
      Effect.catchTag("StillHeld", () =>
        Effect.flatMap(Verb, (operation) =>
          new ChunkStoreError({
            operation,
            transient: true,
            reason: "another transaction holds a chunk of one of the calls, for more than 10 seconds"
          })))
    )
    return { id: own, part: total }
  })
}

/** Walks over the subject's calls. */
const walk = Effect.fnUntraced(function*<E, R>(
  t: Tables,
  subject: Subject,
  step: (ids: ReadonlyArray<string>) => Effect.Effect<Erased, E, R>
) {
  let after = ""
  let total = nothing
  while (true) {
    const [found] = yield* t.client.statement(find(t, subject, after))
    const { ids, last, looked } = found!
    if (ids !== null) total = sum(total, yield* step(ids))
    if (looked < portionSize || last === null) return total
    after = last
  }
})

/** The service on Postgres. Runs `moved` when chunks may have become claimable. */
export const make = (t: Tables, moved: Effect.Effect<void>): Erasure["Service"] => {
  const { client, erasure, sql } = t
  const erasePortion = makePortion(t, moved)
  return Erasure.of({
    erase: Effect.fnUntraced(function*(subject, reason) {
      let id: string | undefined
      const total = yield* walk(t, subject, (ids) =>
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
      walk(t, subject, (ids) =>
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
