/**
 * Handlers of notes whose text says what they do in their transaction, on a database of their own.
 */
import {
  CallRecorder,
  ChunkLedger,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Settings
} from "effect-sluice"
import type * as Handler from "effect-sluice/Handler"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import { Note } from "../support/clinic.ts"
import type { Version } from "../support/cluster.ts"
import * as Postgres from "../support/Postgres.ts"

/** What a handler is given. */
export type Input = Handler.HandlerInput<typeof Note.schema.Type>

/** What a handler does before it writes its row. */
export type Deed = (sql: SqlClient.SqlClient, input: Input) => Effect.Effect<unknown, unknown>

/** The tables of the ward. */
export const tables = `
  create table note (id serial primary key, call_id text not null, tenant text, role text default current_user);
  create table dose (patient text primary key, given int not null);
  create table place (place int not null, call_id text not null);
  create table looked (seen text);
  create table visit (id int primary key, ward int references visit deferrable initially deferred);
  insert into dose values ('knee', 0);
  create role tenant_a;
  grant usage, create on schema public to tenant_a;
  grant all on all tables in schema public to tenant_a;
  grant all on all sequences in schema public to tenant_a`

const roleOnce = (sql: SqlClient.SqlClient) =>
  Effect.forEach(
    tables.split(";").map((statement) => statement.trim()),
    // roles are of the server, and other tests may have made this one
    (statement) => Effect.catch(sql.unsafe(statement), () => Effect.void),
    { discard: true }
  )

/** An application whose handler of notes does a deed, then writes a row, does the last deed, and gives the row back. */
export const application = (options: {
  readonly version?: Version
  readonly deed: Deed
  readonly last?: Deed
  readonly handler?: Handler.Options
  readonly settings?: Partial<Settings.Values>
  readonly maxConnections?: number
}) => {
  const handler = HandlerPlugin.layer(
    "clinic",
    Note,
    Effect.map(SqlClient.SqlClient, (sql) => ({
      retry: Schedule.spaced("1 hour"),
      ...options.handler,
      persist: Effect.fnUntraced(function*(input: Input) {
        yield* options.deed(sql, input)
        const [row] = yield* sql<{ id: number }>`
          insert into note (call_id, tenant) values (${input.call.callId}, current_setting('app.tenant', true))
          returning id`
        if (options.last !== undefined) yield* options.last(sql, input)
        return DomainObject.make("clinic.Note", row!.id)
      })
    }))
  )
  const { maxConnections } = options
  const client = Postgres.layer(options.version, maxConnections === undefined ? {} : { maxConnections })
  return Layer.mergeAll(Drain.layer, CallRecorder.layer, ChunkLedger.layer).pipe(
    Layer.provideMerge(HandlerRegistry.layer().pipe(Layer.provide(handler))),
    Layer.provideMerge(DomainEvents.layer),
    Layer.provideMerge(PgStore.layer),
    Layer.provideMerge(Settings.layer(options.settings ?? {})),
    Layer.provideMerge(
      Layer.effectDiscard(Effect.flatMap(SqlClient.SqlClient, roleOnce)).pipe(Layer.provideMerge(client))
    )
  )
}

/** Lines of the ledger whose row is missing, and rows that no line names. */
export const strays = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ missing: string | null; unnamed: string | null }>`
      with line as (
        select l.call_id, o ->> 'id' as id from sluice.persisted_chunk l, jsonb_array_elements(l.objects) o
        where o ->> 'type' = 'clinic.Note'
      )
      select
        (select string_agg(call_id, ', ') from line where not exists (select from note n where n.id::text = line.id)) as missing,
        (select string_agg(call_id, ', ') from note n where not exists (select from line where line.id = n.id::text)) as unnamed`,
    ([row]) => row
  ))
