/**
 * The shape of the original, a Django application: one wide table; a claim raises the attempts of a batch and commits;
 * then a transaction for each record.
 */
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { Payload } from "../work.ts"
import { checked, versionOf } from "./peer.ts"
import type { System } from "./system.ts"

const tableText = `
  create table original_call (
    id text primary key,
    namespace text not null,
    service text not null,
    status text not null,
    input jsonb,
    context jsonb,
    result jsonb,
    error text,
    backend text,
    task_id text,
    domain_persisted boolean not null default false,
    domain_persist_error text,
    domain_persist_attempts integer not null default 0,
    started_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
  )`

// what is pending, in the order it is claimed in
const indexText = `
  create index original_call_pending on original_call (finished_at) where status = 'succeeded' and not domain_persisted`

interface Record {
  readonly id: string
  readonly result: Payload
}

const maxAttempts = 10

/** The original's shape. */
export const originalShape: System = {
  about: `as the original: wide table, claim of 100, a transaction a record, 20 in flight; ` +
    `sql-pg ${versionOf("@effect/sql-pg")}`,
  open: async (url, { batch = 100, inFlight = 20 }) => {
    const scope = Scope.makeUnsafe()
    const context = await Effect.runPromise(
      Layer.buildWithScope(PgClient.layer({ url: Redacted.make(url), maxConnections: inFlight + 1 }), scope)
    )
    const sql = Context.get(context, SqlClient.SqlClient)
    await Effect.runPromise(Effect.andThen(sql.unsafe(tableText), sql.unsafe(indexText)))
    const claim = sql<Record>`
      with due as (
        select id from original_call
        where status = 'succeeded' and not domain_persisted and domain_persist_attempts < ${maxAttempts}
        order by finished_at limit ${batch} for update skip locked
      )
      update original_call c
      set domain_persist_attempts = domain_persist_attempts + 1, updated_at = now()
      from due where c.id = due.id
      returning c.id, c.result`
    const persist = ({ id, result }: Record) =>
      sql.withTransaction(Effect.gen(function*() {
        const done = yield* sql`select object_id from bench.ledger where call_id = ${id}`
        if (done.length === 0) {
          const [message] = yield* sql<{ id: string }>`
            insert into bench.message (call_id, role, content, metadata)
            values (${id}, ${result.role}, ${result.content}, ${JSON.stringify(result.metadata)}::jsonb)
            returning id::text as id`
          yield* sql`
            insert into bench.ledger (call_id, handler, object_id)
            values (${id}, 'bench/message', ${message?.id}::bigint)`
        }
        yield* sql`update original_call set domain_persisted = true, updated_at = now() where id = ${id}`
      }))
    const drain = Effect.fnUntraced(function*(count: number) {
      let done = 0
      while (done < count) {
        // nothing but the attempts tells that a record is taken: the next claim has to wait for all of this one
        const records = yield* claim
        yield* Effect.forEach(records, persist, { concurrency: inFlight, discard: true })
        if (records.length === 0) return yield* Effect.die(new Error(`${done} of ${count} were drained`))
        done += records.length
      }
    })
    return checked(url, {
      fill: (calls) =>
        Effect.runPromise(Effect.asVoid(sql`
          insert into original_call (id, namespace, service, status, result, started_at, finished_at)
          select id, 'chatlab', 'services.chatlab.standardized_patient.generate-reply', 'succeeded', result::jsonb,
            now(), clock_timestamp()
          from unnest(
            ${calls.map((call) => call.callId)}::text[], ${calls.map((call) => JSON.stringify(call.payload))}::text[]
          ) as given(id, result)`)),
      drain: (count) => Effect.runPromise(drain(count)),
      close: () => Effect.runPromise(Scope.close(scope, Exit.void))
    })
  }
}
