/**
 * A language model of `effect/ai` for any server that speaks OpenAI's chat completions: text and objects, without tools and
 * streams. Copy it where no provider package fits your version of Effect.
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Model from "effect/ai/Model"
import * as OpenAiStructuredOutput from "effect/ai/OpenAiStructuredOutput"
import type * as Response from "effect/ai/Response"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

const Completion = Schema.Struct({
  id: Schema.String,
  model: Schema.String,
  choices: Schema.NonEmptyArray(Schema.Struct({
    finish_reason: Schema.String,
    message: Schema.Struct({ content: Schema.NullOr(Schema.String) })
  })),
  usage: Schema.Struct({
    prompt_tokens: Schema.Int,
    completion_tokens: Schema.Int,
    prompt_tokens_details: Schema.optional(
      Schema.NullOr(Schema.Struct({ cached_tokens: Schema.optional(Schema.Int) }))
    ),
    completion_tokens_details: Schema.optional(
      Schema.NullOr(Schema.Struct({ reasoning_tokens: Schema.optional(Schema.Int) }))
    )
  })
})

const finishReasons: { readonly [reason: string]: Response.FinishReason } = {
  stop: "stop",
  length: "length",
  content_filter: "content-filter"
}

const fail = (reason: AiError.AiErrorReason) =>
  AiError.make({ module: "OpenAiCompatible", method: "generateText", reason })
const noTools = fail(new AiError.InvalidRequestError({ description: "this provider knows no tools and no streams" }))

/** The request's body for a prompt and the form of its answer. */
const bodyOf = (model: string, { prompt, responseFormat }: LanguageModel.ProviderOptions) => ({
  model,
  messages: prompt.content.map(({ content, role }) => ({
    role,
    content: typeof content === "string"
      ? content
      : content.map((part) => part.type === "text" ? part.text : "").join("")
  })),
  ...(responseFormat.type === "json" && {
    response_format: {
      type: "json_schema",
      json_schema: {
        name: responseFormat.objectName,
        strict: true,
        schema: OpenAiStructuredOutput.toCodecOpenAI(responseFormat.schema).jsonSchema
      }
    }
  })
})

/** A model by its name, at the server's address, which ends in `/v1` as a rule. */
export const model = (name: string, server: { readonly url: string; readonly key: Redacted.Redacted }) =>
  Model.make(
    "openai",
    name,
    Layer.effect(
      LanguageModel.LanguageModel,
      Effect.gen(function*() {
        const client = HttpClient.filterStatusOk(yield* HttpClient.HttpClient)
        const generateText = Effect.fnUntraced(
          function*(options: LanguageModel.ProviderOptions) {
            if (options.tools.length > 0) return yield* noTools
            const { choices: [{ finish_reason, message }], id, model, usage } = yield* HttpClientRequest.post(
              `${server.url}/chat/completions`
            ).pipe(
              HttpClientRequest.bearerToken(server.key),
              HttpClientRequest.bodyJsonUnsafe(bodyOf(name, options)),
              client.execute,
              Effect.flatMap(HttpClientResponse.schemaBodyJson(Completion))
            )
            return [
              { type: "response-metadata", id, modelId: model },
              { type: "text", text: message.content ?? "" },
              {
                type: "finish",
                reason: finishReasons[finish_reason] ?? "unknown",
                usage: {
                  inputTokens: {
                    total: usage.prompt_tokens,
                    cacheRead: usage.prompt_tokens_details?.cached_tokens
                  },
                  outputTokens: {
                    total: usage.completion_tokens,
                    reasoning: usage.completion_tokens_details?.reasoning_tokens
                  }
                }
              }
            ] satisfies Array<Response.PartEncoded>
          },
          Effect.catchTags({
            HttpClientError: (error) =>
              fail(
                error.reason._tag === "StatusCodeError"
                  ? AiError.reasonFromHttpStatus({ status: error.reason.response.status })
                  : new AiError.UnknownError({ description: error.message })
              ),
            SchemaError: (error) => fail(new AiError.InvalidOutputError({ description: error.message }))
          })
        )
        return yield* LanguageModel.make({
          generateText,
          streamText: () => Stream.fail(noTools),
          codecTransformer: OpenAiStructuredOutput.toCodecOpenAI
        })
      })
    )
  )
