/**
 * The results of an OpenAI batch of chat completions, one a line, in any order:
 *
 *     sluice record openai-output.jsonl --via openai.ts --requests openai-batch.jsonl
 *
 * Requests that failed are in the file of errors; its lines have the same form, and are refused one by one.
 */
import { LineMapper } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { callOf } from "./finding.ts"

const Completion = Schema.Struct({
  id: Schema.String,
  model: Schema.String,
  choices: Schema.NonEmptyArray(Schema.Struct({
    finish_reason: Schema.String,
    message: Schema.Struct({ content: Schema.NullOr(Schema.String) })
  })),
  usage: Schema.Struct({ prompt_tokens: Schema.Int, completion_tokens: Schema.Int })
})

const Line = Schema.Struct({
  response: Schema.NullOr(Schema.Struct({ status_code: Schema.Int, body: Schema.Json })),
  error: Schema.optionalKey(Schema.NullOr(Schema.Struct({ message: Schema.String })))
})

const decodeLine = Schema.decodeUnknownEffect(Line)
const decodeCompletion = Schema.decodeUnknownEffect(Completion)

export default LineMapper.make(Effect.fnUntraced(function*(line) {
  const { error, response } = yield* decodeLine(line.json)
  if (response === null) return LineMapper.refuse(error?.message ?? "there is no response")
  if (response.status_code !== 200) return LineMapper.refuse(`status ${response.status_code}`)
  const { choices: [choice], id, model, usage } = yield* decodeCompletion(response.body)
  return callOf(line, choice.message.content ?? "", {
    provider: "openai",
    responseId: id,
    responseModel: model,
    finishReason: choice.finish_reason,
    inputTokens: usage.prompt_tokens,
    outputTokens: usage.completion_tokens
  })
}))
