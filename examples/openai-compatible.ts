/**
 * A language model of `effect/ai` for any server that speaks OpenAI's chat completions: text and objects, without tools and
 * streams. Copy it where no provider package fits your version of Effect.
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Model from "effect/ai/Model"
import { toCodecOpenAI } from "effect/ai/OpenAiStructuredOutput"
import * as Response from "effect/ai/Response"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

const Message = Schema.Struct({ content: Schema.NullOr(Schema.String) })
const Completion = Schema.Struct({
  id: Schema.String,
  model: Schema.String,
  choices: Schema.NonEmptyArray(Schema.Struct({ finish_reason: Schema.String, message: Message })),
  // not every server counts
  usage: Schema.optional(Schema.NullOr(Schema.Struct({ prompt_tokens: Schema.Int, completion_tokens: Schema.Int })))
})
const isReason = Schema.is(Response.FinishReason)

const bodyOf = (model: string, { prompt, responseFormat: format }: LanguageModel.ProviderOptions) => {
  const messages = prompt.content.map(({ content, role }) => {
    const parts = typeof content === "string" ? [content] : content.map((part) => part.type === "text" ? part.text : "")
    return { role, content: parts.join("") }
  })
  if (format.type === "text") return { model, messages }
  const json_schema = { name: format.objectName, strict: true, schema: toCodecOpenAI(format.schema).jsonSchema }
  return { model, messages, response_format: { type: "json_schema", json_schema } }
}

const partsOf = ({ choices: [{ finish_reason, message }], id, model, usage }: typeof Completion.Type) => {
  const reason = finish_reason.replace("_", "-")
  const tokens = { inputTokens: { total: usage?.prompt_tokens }, outputTokens: { total: usage?.completion_tokens } }
  return [
    { type: "response-metadata", id, modelId: model },
    { type: "text", text: message.content ?? "" },
    { type: "finish", reason: isReason(reason) ? reason : "unknown", usage: tokens }
  ] satisfies Array<Response.PartEncoded>
}

const errorOf = (error: HttpClientError | Schema.SchemaError) => {
  const status = error._tag === "HttpClientError" ? error.response?.status : undefined
  const reason = AiError.reasonFromHttpStatus({ status: status ?? 0, description: error.message })
  return AiError.make({ module: "OpenAiCompatible", method: "generateText", reason })
}

/** A model by its name, at the server's address, which ends in `/v1` as a rule. */
export const model = (name: string, server: { readonly url: string; readonly key: Redacted.Redacted }) => {
  const make = Effect.flatMap(HttpClient.HttpClient, (client) =>
    LanguageModel.make({
      codecTransformer: toCodecOpenAI,
      streamText: () => Stream.die("this provider does not stream"),
      generateText: (options) =>
        HttpClientRequest.post(`${server.url}/chat/completions`).pipe(
          HttpClientRequest.bearerToken(server.key),
          HttpClientRequest.bodyJsonUnsafe(bodyOf(name, options)),
          HttpClient.filterStatusOk(client).execute,
          Effect.flatMap(HttpClientResponse.schemaBodyJson(Completion)),
          Effect.mapBoth({ onSuccess: partsOf, onFailure: errorOf })
        )
    }))
  return Model.make("openai", name, Layer.effect(LanguageModel.LanguageModel, make))
}
