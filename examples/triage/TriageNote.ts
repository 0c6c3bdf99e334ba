/**
 * What the model answers to a patient's message, and how the answer becomes a row.
 */
import { DomainObject, Output, OutputGroup } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"

/** How urgent a patient's message is. */
export class TriageNote extends Output.make("schemas.triage.messages.triage-note", {
  schema: Schema.Struct({
    urgency: Schema.Literals(["routine", "soon", "emergency"]),
    reason: Schema.String.annotate({ description: "One sentence for the nurse" }),
    question: Schema.optionalKey(Schema.String.annotate({ description: "What to ask the patient next" }))
  })
}) {}

export const Triage = OutputGroup.make("triage", TriageNote)

/** The table of notes. It may be made again. */
export const makeTable = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`create table if not exists triage_note (message_id text, urgency text not null, reason text not null)`
)

export const TriageHandlers = Triage.toLayer(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return Triage.of({
    "triage-note": Effect.fn("TriageNote.persist")(function*({ call, output }) {
      const messageId = yield* call.context("messageId")
      yield* sql`insert into triage_note (message_id, urgency, reason) values (${messageId}, ${output.urgency}, ${output.reason})`
      return [DomainObject.make("triage.Note", messageId)]
    })
  })
}))
