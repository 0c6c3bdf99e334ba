/**
 * What a batch was asked for: the findings of each dialogue, as JSON `{ "findings": [{ "code", "text" }] }`.
 */
import { type CallFacts, LineMapper, Output } from "effect-sluice"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/** One finding. A bad one is a dead letter of its own; the others of its answer arrive. */
export class Finding extends Output.make("schemas.clinic.dialogues.finding", {
  schema: Schema.Struct({ code: Schema.String, text: Schema.String })
}) {}

const parse = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Json))

/**
 * The elements of an answer. One that is not what was asked for is kept whole: it is paid for, and becomes a dead letter.
 */
const elementsOf = (answer: string): ReadonlyArray<Schema.Json> => {
  const json = Option.getOrElse(parse(answer), () => answer)
  return Predicate.hasProperty(json, "findings") && Array.isArray(json.findings) ? json.findings : [json]
}

/** The call of an answer. The custom id names the dialogue, and is the call's id. */
export const callOf = (
  { key, request }: LineMapper.ResultLine,
  answer: string,
  facts: CallFacts.CallFacts
): LineMapper.Mapped => {
  const outputs = Finding.each(elementsOf(answer), { part: "code" })
  if (outputs.length === 0) return LineMapper.skip
  return {
    callId: key,
    namespace: "clinic",
    service: "services.clinic.dialogues.find",
    context: { dialogueId: key },
    ...(request === undefined ? {} : { input: request.json }),
    facts,
    outputs
  }
}
