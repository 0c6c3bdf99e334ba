/**
 * The batch that is cut in every place: successes, a failure, one that does not decode, one that was persisted before,
 * and an ordered pair; and the picture of the tables by which two runs are compared.
 */
import {
  CallRecorder,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  type ServiceCall,
  Settings,
  TableHandler
} from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"

class Note extends Output.make("schemas.clinic.ward.note", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String, fails: Schema.Boolean })
}) {}

const NoteHandler = HandlerPlugin.layer(
  "clinic",
  Note,
  Effect.map(SqlClient.SqlClient, (sql) => ({
    maxAttempts: 2,
    retry: Schedule.spaced("1 hour"),
    persist: Effect.fnUntraced(function*({ call, output }) {
      const rows = yield* sql<{ id: number }>`
        insert into note (call_id, content) values (${call.callId}, ${output.text}) returning id`
      if (output.fails) return yield* Effect.fail(new Error("this one always fails"))
      return rows.map((row) => DomainObject.make("clinic.Note", row.id))
    })
  }))
)

/** An output whose handler is declared. */
export class Sign extends Output.make("schemas.clinic.ward.sign", { schema: Schema.Struct({ text: Schema.String }) }) {}

const SignHandler = HandlerPlugin.layer(
  "clinic",
  Sign,
  TableHandler.make(Sign, {
    table: "note",
    object: "clinic.Note",
    columns: ({ call, output }) => ({ call_id: call.callId, content: output.text })
  })
)

const drainWith = (handlers: typeof NoteHandler | typeof SignHandler) =>
  Drain.layer.pipe(
    Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handlers))),
    Layer.provide(PgStore.layerStorage),
    Layer.provide(DomainEvents.layer),
    // a lease nobody sees the end of: the tests say when it ran out
    Layer.provide(Settings.layer({ lease: Duration.minutes(10), notify: false, listen: false, batchSize: 20 }))
  )

/** The drain under test, on tables that are there. */
export const drain = drainWith(NoteHandler)

/** The same with a declared handler, which serves {@link Sign} alone. */
export const declaredDrain = drainWith(SignHandler)

const call = (number: number, data: Schema.Json, orderingKey?: string): ServiceCall.ServiceCall => ({
  callId: `call-${number}`,
  namespace: "clinic",
  service: "services.clinic.ward.take-notes",
  outputs: [{ schema: Note.identity, version: 1, data }],
  ...(orderingKey === undefined ? {} : { orderingKey })
})

const good = (number: number, orderingKey?: string) =>
  call(number, { text: `note ${number}`, fails: false }, orderingKey)

const batch = [
  good(1),
  good(2, "bed-1"),
  call(3, { text: "note 3", fails: true }),
  call(4, { text: 4 }),
  good(5),
  good(6, "bed-1"),
  good(7)
]

/** Makes the tables. */
export const prepare = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.scoped(Layer.build(PgStore.layer))
  yield* sql`create table note (id serial primary key, call_id text not null, content text not null)`
})

/** Empties the tables and records the batch anew. Call 5 was persisted before, and stands in the queue all the same. */
export const reset = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    truncate note, sluice.service_call, sluice.chunk_queue, sluice.persisted_chunk, sluice.dead_letter,
      sluice.chunk_failure, sluice.worker, sluice.ledger_place, sluice.ledger_total, sluice.ledger_digest`
  yield* Effect.provide(
    Effect.flatMap(CallRecorder.CallRecorder, (recorder) => recorder.recordMany(batch)),
    CallRecorder.layer.pipe(Layer.provide(PgStore.layerStorage)),
    { local: true }
  )
  const [row] = yield* sql<{ id: number }>`insert into note (call_id, content) values ('call-5', 'note 5') returning id`
  yield* sql`
    insert into sluice.persisted_chunk
      (call_id, schema_identity, namespace, schema_version, handler, handler_version, objects)
    values ('call-5', ${Note.identity}, 'clinic', 1, 'clinic/note', 1,
      ${JSON.stringify([{ type: "clinic.Note", id: String(row?.id) }])}::jsonb)`
})

/** Lets the time pass that what failed has to wait. */
export const dueAgain = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`update sluice.chunk_queue set due_at = now() - interval '1 second' where state = 'scheduled'`
)

/** Drains to the end, whatever leases and delays there are: as if an hour had passed each time. */
export const recover = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const { cycle } = yield* Drain.Drain
  while (true) {
    yield* sql`update sluice.chunk_queue set lease_until = now() - interval '1 second' where lease_token is not null`
    yield* dueAgain
    yield* cycle
    const rows = yield* sql`select from sluice.chunk_queue`
    if (rows.length === 0) return
  }
})

/** All that must be the same, whatever happened on the way. Ids and times are left out, and crashes, which did happen. */
export const picture = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return {
    notes: yield* sql`select call_id, content from note order by call_id`,
    // the ordered pair, as it was written
    ordered: yield* sql`select call_id from note where call_id in ('call-2', 'call-6') order by id`,
    ledger: yield* sql`
      select call_id, handler,
        (select array_agg(n.call_id) from note n where l.objects @> jsonb_build_array(
          jsonb_build_object('type', 'clinic.Note', 'id', n.id::text))) as objects
      from sluice.persisted_chunk l order by call_id`,
    queue: yield* sql`select call_id, state, attempts from sluice.chunk_queue order by call_id`,
    dead: yield* sql`select call_id, reason, attempts from sluice.dead_letter order by call_id`,
    failures: yield* sql`select call_id, kind, attempt from sluice.chunk_failure order by call_id, attempt, id`
  }
})
