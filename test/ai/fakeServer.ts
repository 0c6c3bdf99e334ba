/**
 * A server that answers like OpenAI (chat completions and responses) and Anthropic (messages), whole and as server-sent
 * events. Each request is answered by the next of the answers given.
 */
import { createServer } from "node:http"

/** An answer as the model would write it, or a status. */
export type Answer =
  | { readonly text: string }
  | { readonly tools: ReadonlyArray<{ readonly id: string; readonly name: string; readonly params: unknown }> }
  | { readonly status: number }

/** A request that was made. */
export interface Asked {
  readonly path: string
  // whatever a client sends
  readonly body: any
}

type Event = Readonly<Record<string, unknown>>
/** What an answer is sent as. */
interface Sent {
  readonly whole: unknown
  /** The events of a stream. */
  readonly events: ReadonlyArray<Event>
}

const pieces = (text: string): ReadonlyArray<string> => text.match(/.{1,9}/gs) ?? []

const completion = (answer: Exclude<Answer, { status: number }>, model: string): Sent => {
  const message = "text" in answer ? { content: answer.text } : {
    content: null,
    tool_calls: answer.tools.map(({ id, name, params }) => ({
      id,
      type: "function",
      function: { name, arguments: JSON.stringify(params) }
    }))
  }
  return {
    events: [],
    whole: {
      id: "chatcmpl-1",
      object: "chat.completion",
      created: 1764460800,
      model: `${model}-2026-10-01`,
      choices: [{
        index: 0,
        finish_reason: "text" in answer ? "stop" : "tool_calls",
        message: { role: "assistant", ...message }
      }],
      usage: {
        prompt_tokens: 100,
        completion_tokens: 20,
        total_tokens: 120,
        prompt_tokens_details: { cached_tokens: 40 },
        completion_tokens_details: { reasoning_tokens: 5 }
      }
    }
  }
}

const response = (answer: Exclude<Answer, { status: number }>, model: string): Sent => {
  const output = "text" in answer
    ? [{
      type: "message",
      id: "msg_1",
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text: answer.text, annotations: [], logprobs: [] }]
    }]
    : answer.tools.map(({ id, name, params }, index) => ({
      type: "function_call",
      id: `fc_${index}`,
      call_id: id,
      name,
      arguments: JSON.stringify(params),
      status: "completed"
    }))
  const about = {
    id: "resp_1",
    object: "response",
    created_at: 1764460800,
    model: `${model}-2026-10-01`,
    error: null,
    incomplete_details: null,
    instructions: null,
    metadata: {},
    parallel_tool_calls: true,
    temperature: 1,
    tool_choice: "auto",
    tools: [],
    top_p: 1
  }
  const whole = {
    ...about,
    status: "completed",
    output,
    usage: {
      input_tokens: 100,
      input_tokens_details: { cached_tokens: 40 },
      output_tokens: 20,
      output_tokens_details: { reasoning_tokens: 5 },
      total_tokens: 120
    }
  }
  const events: Array<Event> = [{ type: "response.created", response: { ...about, status: "in_progress", output: [] } }]
  output.forEach((item, output_index) => {
    if (!("arguments" in item)) return
    events.push({
      type: "response.output_item.added",
      output_index,
      item: { ...item, arguments: "", status: "in_progress" }
    })
    for (const delta of pieces(item.arguments)) {
      events.push({ type: "response.function_call_arguments.delta", item_id: item.id, output_index, delta })
    }
    events.push(
      {
        type: "response.function_call_arguments.done",
        item_id: item.id,
        output_index,
        name: item.name,
        arguments: item.arguments
      },
      { type: "response.output_item.done", output_index, item }
    )
  })
  events.push({ type: "response.completed", response: whole })
  return { whole, events: events.map((event, sequence_number) => ({ ...event, sequence_number })) }
}

const message = (answer: Exclude<Answer, { status: number }>, model: string): Sent => {
  const content = "text" in answer
    ? [{ type: "text", text: answer.text, citations: null }]
    : answer.tools.map(({ id, name, params }) => ({
      type: "tool_use",
      id,
      name,
      input: params,
      caller: { type: "direct" }
    }))
  const usage = {
    input_tokens: 60,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: 40,
    cache_creation: { ephemeral_1h_input_tokens: 0, ephemeral_5m_input_tokens: 0 },
    output_tokens: 20,
    server_tool_use: null,
    service_tier: "standard",
    inference_geo: null,
    speed: null,
    iterations: null
  }
  const stop_reason = "text" in answer ? "end_turn" : "tool_use"
  const whole = {
    id: "msg_1",
    type: "message",
    role: "assistant",
    model: `${model}-20261001`,
    content,
    stop_reason,
    stop_sequence: null,
    stop_details: null,
    container: null,
    context_management: null,
    usage
  }
  const events: Array<Event> = [
    {
      type: "message_start",
      message: { ...whole, content: [], stop_reason: null, usage: { ...usage, output_tokens: 1 } }
    }
  ]
  content.forEach((block, index) => {
    if (!("input" in block)) return
    events.push({ type: "content_block_start", index, content_block: { ...block, input: {} } })
    for (const partial_json of pieces(JSON.stringify(block.input))) {
      events.push({ type: "content_block_delta", index, delta: { type: "input_json_delta", partial_json } })
    }
    events.push({ type: "content_block_stop", index })
  })
  events.push(
    {
      type: "message_delta",
      delta: { stop_reason, stop_sequence: null, stop_details: null, container: null },
      context_management: null,
      usage
    },
    { type: "message_stop" }
  )
  return { whole, events }
}

const wires: { readonly [path: string]: typeof completion } = {
  "/v1/chat/completions": completion,
  "/v1/responses": response,
  "/v1/messages": message
}

/** An error's body, with what each of the formats asks for. */
const refusal = {
  type: "error",
  request_id: "req_1",
  error: { type: "rate_limit_error", message: "Too many requests", code: null, param: null }
}

/** A server under way. */
export interface FakeServer {
  readonly url: string
  readonly asked: ReadonlyArray<Asked>
  readonly close: () => Promise<void>
}

/** Starts a server that gives these answers. */
export const startFakeServer = async (...answers: ReadonlyArray<Answer>): Promise<FakeServer> => {
  const asked: Array<Asked> = []
  const server = createServer((request, reply) => {
    let text = ""
    request.setEncoding("utf8").on("data", (piece: string) => text += piece).on("end", () => {
      const path = (request.url ?? "").replace(/\?.*/, "")
      const body = JSON.parse(text)
      const answer = answers[asked.push({ path, body }) - 1] ?? { status: 500 }
      const wire = wires[path]
      if (wire === undefined || "status" in answer) {
        reply.statusCode = "status" in answer ? answer.status : 404
        reply.setHeader("content-type", "application/json").end(
          JSON.stringify(refusal)
        )
        return
      }
      const { events, whole } = wire(answer, body.model)
      if (body.stream !== true) {
        reply.setHeader("content-type", "application/json").end(JSON.stringify(whole))
        return
      }
      reply.setHeader("content-type", "text/event-stream")
      for (const event of events) reply.write(`event: ${String(event["type"])}\ndata: ${JSON.stringify(event)}\n\n`)
      reply.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  const port = address !== null && typeof address === "object" ? address.port : 0
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    close: () => new Promise((resolve) => server.close(() => resolve()))
  }
}
