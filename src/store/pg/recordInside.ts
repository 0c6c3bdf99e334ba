/**
 * The verb `recordInside`: records a call and persists its outputs, which one declared handler serves, in one statement. It
 * writes no queue rows, because it would delete them at once. The rows are made as by `inside.ts`.
 *
 * When the statement fails, it has changed nothing, and does not show which output is at fault. The drain then runs the
 * handler on a claim, which does.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { RecordInsideRequest } from "../../Inside.ts"
import * as Kind from "../../Kind.ts"
import { limitOf } from "./client.ts"
import type { Compiled } from "./declared.ts"
import type { Engine } from "./engine.ts"
import { type Given, given } from "./given.ts"
import { canRunInside, resettingAfter } from "./inside.ts"
import { exactOf, linesOf, writtenOf } from "./insideStatement.ts"
import { type Answer, isOne, recordInsideOne } from "./recordInsideOne.ts"
import { callRowsOf, chunkRowsOf, moreOf, openedOf, recordedOf } from "./recordStatements.ts"
import { unlessLocked } from "./tableLock.ts"
import type { Tables } from "./tables.ts"

/**
 * How much longer it may take than it waits for locks. The server locks the table itself when it plans the statement, before
 * the limit is set, and waits there for as long as a change of the table takes. Long enough for a server under load: what is
 * cut off may have committed, and then its events are not published.
 */
const grace = Duration.seconds(5)

/** A row of the answer, one for each output. */
interface Row extends Answer {
  readonly exact: number
}

/**
 * Records the call, unless it was recorded before or its kind is paused. `answer` joins `recorded`, so a call that is not
 * recorded here makes no rows. The limit for waiting at locks is set before the first row is written.
 */
const statement = (
  t: Tables,
  asked: Given,
  { declaration, handler, handlerVersion, lockTimeout }: RecordInsideRequest,
  compiled: Compiled
) => {
  const { callSubscription, ledger, pause, schema, sql } = t
  const one = [asked]
  const { schema: identity = "", version = 0 } = asked.call.outputs[0] ?? {}
  const any = sql.literal(`'${Kind.wildcard}'`)
  const answers = sql`select * from answer`
  return sql<Row>`
    with given as materialized (
      select g.* from (
        select pg_catalog.set_config('lock_timeout', ${String(Math.ceil(Duration.toMillis(lockTimeout)))}, true)
        offset 0
      ) limited cross join (${callRowsOf(t, one)}) g
      where not exists (
        select from ${pause} p
        where p.namespace in (${any}, g.namespace) and p.schema_identity in (${any}, ${identity})
      )
    ), chunk as materialized (
      ${chunkRowsOf(t, one)}
    ), recorded as (
      ${recordedOf(t)}
    ), opened as (
      ${openedOf(t)}
    ), answer as materialized (
      select pg_catalog.nextval(${sql.literal(`'${schema}.chunk_seq'`)}) as seq, l.* from (
        select o.n, g.call_id, o.part, g.namespace, pg_catalog.now() as recorded_at, null::pg_catalog.text as ordering_key,
          g.service, g.correlation_id, pg_catalog.date_trunc('milliseconds', r.finished_at) as finished_at,
          null::pg_catalog.text as told, g.context::pg_catalog.jsonb as context,
          o.output::pg_catalog.jsonb -> 'data'::pg_catalog.text as data
        from chunk o join given g on g.n = o.call join recorded r using (call_id)
        order by o.n
      ) l
    ), ${linesOf(t, compiled, answers)}, ${writtenOf(t, declaration, compiled)}, kept as (
      insert into ${ledger} (
        seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects
      )
      select seq, call_id, ${identity}, part, namespace, ${version}::int, ${handler}, ${handlerVersion}::int, objects
      from settled order by n
    )${moreOf(t, one)}
    select ${exactOf(t, compiled, "answer")} as exact, s.objects, exists (select from ${callSubscription}) as ends
    from (values (1)) one left join settled s on true
    order by s.n`
}

/** The verb. */
export const recordInside = (
  { close, compiling, hint, t }: Engine
): ChunkStore["Service"]["recordInside"] => {
  const one = recordInsideOne(t)
  return Effect.fnUntraced(function*(call, request) {
    const { declaration, lockTimeout, timeout } = request
    if ((yield* t.client.isCallers) || !canRunInside(declaration)) return undefined
    const asked = given(call)
    // to compile it, the server waits for a lock on the table as well
    const compiled = Effect.timeoutOption(compiling.of(declaration), lockTimeout)
    // it may have committed nevertheless: the ordinary way finds that out
    const limit = {
      duration: Duration.min(timeout, limitOf(t.sql, Duration.sum(Duration.times(lockTimeout, 2), grace))),
      orElse: () => Effect.succeed([])
    }
    const recording = Effect.flatMap(
      compiled,
      Option.match({
        onNone: () => Effect.succeed([]),
        onSome: ({ parent }) =>
          resettingAfter<ReadonlyArray<Answer>>(
            t,
            parent,
            isOne(asked, parent) ? one(asked, request, parent) : statement(t, asked, request, parent)
          )
      })
    ).pipe(
      Effect.tapError((error) => Effect.sync(() => compiling.failed(declaration, error))),
      // the handler fails on a claim in the same way, which reports it
      Effect.catchTag("TableUnfit", () => Effect.succeed([])),
      t.client.limited,
      // around a begin and a commit as well, where the client needs these
      unlessLocked(t, declaration, limit),
      Effect.tapErrorTag("TableLocked", (error) => Effect.sync(() => compiling.failed(declaration, error)))
    )
    const rows = yield* Effect.interruptible(recording)
    const objects = rows.flatMap((row) => row.objects === null ? [] : [row.objects])
    if (objects.length === 0) return undefined
    if (objects.some((some) => some.length > 0)) yield* hint("events")
    if (rows[0]?.ends === true) yield* close([call.callId])
    return objects
  }, Effect.uninterruptible)
}
