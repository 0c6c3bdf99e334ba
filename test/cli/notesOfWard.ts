/**
 * A handler module that writes no table, for commands that are run in the test's own process.
 */
import { HandlerPlugin, Output } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

class Reply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String })
}) {}

/** Persists replies of the ward, of which nothing is created. */
export const replies = HandlerPlugin.layer("clinic", Reply, () => Effect.void)
