import { Effect, Layer, Schema } from "effect"
import { DomainObject, type Handler, HandlerPlugin, Output, TableHandler } from "effect-sluice"
import { SqlClient } from "effect/sql"

// What the LLM answers: a stable name, a version, a schema.
class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String })
}) {}

// Your tables come from your migrations. This one is made here, so that the example runs at once.
const table = Layer.effectDiscard(Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`create table if not exists message (id serial primary key, call_id text not null, content text not null)`
))

// How an answer becomes rows: which column takes which field. Sluice writes them. A misspelt field does not compile.
const declared = TableHandler.make(PatientReply, {
  table: "message",
  object: "chatlab.Message",
  columns: ({ call, output }) => ({ call_id: call.callId, content: output.text })
})

export const patientReply = HandlerPlugin.layer("chatlab", PatientReply, declared).pipe(Layer.provide(table))

// The same as a program, to compute and decide: put `program` in the place of `declared`. It is called for one answer, and
// runs in the transaction of its batch.
export const program = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return Effect.fn("PatientReply.persist")(
    function*({ call, output }: Handler.HandlerInput<Output.Value<typeof PatientReply>>) {
      const rows = yield* sql<{ id: number }>`
        insert into message (call_id, content) values (${call.callId}, ${output.text}) returning id`
      return rows.map((row) => DomainObject.make("chatlab.Message", row.id))
    }
  )
})
