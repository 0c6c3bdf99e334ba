/**
 * A handler module whose handler fails as an application's does: the database's error, wrapped twice, with a long story.
 */
import { HandlerPlugin, Output } from "effect-sluice"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"

class Reply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String })
}) {}

class NotSaved extends Data.TaggedError("NotSaved")<{ readonly cause: unknown }> {
  override get message() {
    return `the reply could not be saved, ${"and this is told at length ".repeat(20)}to the end`
  }
}

/** Fails for each reply: with what is sent and is not a number. */
export const replies = HandlerPlugin.layer(
  "clinic",
  Reply,
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    return ({ call, output }) =>
      Effect.mapError(
        sql`insert into sluice.pause (namespace, schema_identity, reason, paused_at)
          values (${call.callId}, ${output.text}, ${output.text}, ${output.text}::text::timestamptz)`,
        (error) => new NotSaved({ cause: new Error("the repository failed", { cause: error }) })
      )
  })
)
