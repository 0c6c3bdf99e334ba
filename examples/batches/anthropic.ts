/**
 * The results of an Anthropic message batch, one a line, in any order:
 *
 *     sluice record anthropic-results.jsonl --via anthropic.ts --requests anthropic-requests.jsonl
 */
import { LineMapper } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { callOf } from "./finding.ts"

const tokens = Schema.optionalKey(Schema.NullOr(Schema.Int))

const Message = Schema.Struct({
  id: Schema.String,
  model: Schema.String,
  content: Schema.Array(Schema.Struct({ type: Schema.String, text: Schema.optionalKey(Schema.String) })),
  stop_reason: Schema.String,
  usage: Schema.Struct({
    // without those that the cache held or took up
    input_tokens: Schema.Int,
    cache_read_input_tokens: tokens,
    cache_creation_input_tokens: tokens,
    output_tokens: Schema.Int
  })
})

const Line = Schema.Struct({
  result: Schema.Union([
    Schema.Struct({ type: Schema.Literal("succeeded"), message: Message }),
    Schema.Struct({
      type: Schema.Literal("errored"),
      error: Schema.Struct({ error: Schema.Struct({ message: Schema.String }) })
    }),
    Schema.Struct({ type: Schema.Literals(["canceled", "expired"]) })
  ])
})

const decodeLine = Schema.decodeUnknownEffect(Line)

export default LineMapper.make(Effect.fnUntraced(function*(line) {
  const { result } = yield* decodeLine(line.json)
  if (result.type === "errored") return LineMapper.refuse(result.error.error.message)
  if (result.type !== "succeeded") return LineMapper.refuse(`the request was ${result.type}`)
  const { content, id, model, stop_reason, usage } = result.message
  const cached = usage.cache_read_input_tokens ?? 0
  return callOf(line, content.map(({ text = "" }) => text).join(""), {
    provider: "anthropic",
    responseId: id,
    responseModel: model,
    finishReason: stop_reason,
    inputTokens: usage.input_tokens + cached + (usage.cache_creation_input_tokens ?? 0),
    cachedInputTokens: cached,
    outputTokens: usage.output_tokens
  })
}))
