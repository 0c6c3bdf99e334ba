import { Effect, Schema } from "effect"
import { DomainObject, HandlerPlugin, Output } from "effect-sluice"
import { SqlClient } from "effect/sql"

// What the LLM answers: a stable name, a version, a schema.
class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String })
}) {}

// Turns an answer into rows. Called for one answer, it runs in the transaction of its batch.
export const patientReply = HandlerPlugin.layer(
  "chatlab",
  PatientReply,
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`create table if not exists message (id serial primary key, call_id text not null, content text not null)`
    return Effect.fn("PatientReply.persist")(function*({ call, output }) {
      const rows = yield* sql<{ id: number }>`
        insert into message (call_id, content) values (${call.callId}, ${output.text}) returning id`
      return rows.map((row) => DomainObject.make("chatlab.Message", row.id))
    })
  })
)
