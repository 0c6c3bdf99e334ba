/**
 * The answers of the simulated patient's LLM: the three kinds of output of the chat laboratory.
 */
import { Output, OutputGroup } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** A piece of text in an item. */
const OutputText = Schema.Struct({ type: Schema.Literal("output_text"), text: Schema.String })

/** Any other content of an item. Only its type is known. */
const OtherContent = Schema.Struct({
  type: Schema.String.check(
    Schema.makeFilter((type) => type !== "output_text" || "expected the text of an output_text")
  )
})

/** One item of an answer: its role, its content and its metadata. */
export const OutputItem = Schema.Struct({
  role: Schema.String,
  content: Schema.Array(Schema.Union([OutputText, OtherContent])),
  item_meta: Schema.Struct({ key: Schema.optionalKey(Schema.String) }).pipe(
    Schema.withDecodingDefaultTypeKey(Effect.succeed({}))
  )
})
/** One item of an answer. */
export interface OutputItem extends Schema.Schema.Type<typeof OutputItem> {}

/** The text of an item: all its pieces, joined. */
export const textOf = (item: OutputItem): string =>
  item.content.map((content) => "text" in content ? content.text : "").join("")

/** What the LLM noticed about the simulated condition. Recorded, but not written to the tables. */
const Conditions = Schema.Array(Schema.Struct({ key: Schema.String, value: Schema.Json })).pipe(
  Schema.withDecodingDefaultTypeKey(Effect.succeed([]))
)

/** The first answer of a simulation: the patient's words, and facts about the patient. */
export class PatientInitial extends Output.make("schemas.chatlab.standardized_patient.patient-initial", {
  version: 1,
  schema: Schema.Struct({
    messages: Schema.NonEmptyArray(OutputItem),
    metadata: Schema.Array(OutputItem),
    llm_conditions_check: Conditions
  })
}) {}

/** A later answer, which may ask for an image. */
export class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  version: 1,
  schema: Schema.Struct({
    image_requested: Schema.Boolean,
    messages: Schema.NonEmptyArray(OutputItem),
    llm_conditions_check: Conditions
  })
}) {}

/** The written note at the end: findings only, no messages. */
export class PatientResults extends Output.make("schemas.chatlab.standardized_patient.patient-results", {
  version: 1,
  schema: Schema.Struct({ metadata: Schema.Array(OutputItem) })
}) {}

/** All outputs of the chat laboratory. */
export const Chatlab = OutputGroup.make("chatlab", PatientInitial, PatientReply, PatientResults)
