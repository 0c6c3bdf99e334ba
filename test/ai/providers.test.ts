/**
 * The provider packages of npm against a server that speaks their wire formats: what is recorded through them.
 */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { beforeAll, describe, expect, it } from "vitest"
import { type Answer, startFakeServer } from "./fakeServer.ts"

const here = (file: string) => fileURLToPath(new URL(file, import.meta.url))
const run = promisify(execFile)

const reply = { text: "My knee", pain: 7, since: "2026-10-01T00:00:00Z" }
const answers: ReadonlyArray<Answer> = [
  // an object that does not fit, and its repair
  { text: JSON.stringify({ ...reply, pain: "seven" }) },
  { text: JSON.stringify(reply) },
  {
    tools: [
      { id: "call_a", name: "order-test", params: { test: "mri" } },
      { id: "call_b", name: "patient-reply", params: reply }
    ]
  },
  { tools: [{ id: "call_c", name: "patient-reply", params: reply }] },
  { tools: [{ id: "call_d", name: "order-test", params: { test: "biopsy" } }] },
  { status: 429 }
]

/** What the program prints of a call. */
interface Told {
  readonly callId: string
  readonly value: unknown
  readonly status: string
  readonly facts: unknown
  readonly attempts: ReadonlyArray<unknown>
}

let told: ReadonlyArray<Told> = []
beforeAll(async () => {
  const server = await startFakeServer(...answers, ...answers)
  const args = ["--conditions=sluice-source", "--import", here("resolveHook.mjs"), here("providers.ts"), server.url]
  const { stdout } = await run(process.execPath, args).finally(() => server.close())
  told = stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as Told)
})
const toldOf = (callId: string) => told.find((call) => call.callId === callId)
const millis = expect.any(Number)

describe.each([
  ["openai", {
    provider: "openai",
    requestModel: "gpt-5-mini",
    responseModel: "gpt-5-mini-2026-10-01",
    responseId: "resp_1",
    inputTokens: 100,
    outputTokens: 20,
    cachedInputTokens: 40,
    reasoningTokens: 5,
    durationMillis: millis
  }],
  ["anthropic", {
    provider: "anthropic",
    requestModel: "claude-sonnet-4-5",
    responseModel: "claude-sonnet-4-5-20261001",
    responseId: "msg_1",
    inputTokens: 100,
    outputTokens: 20,
    cachedInputTokens: 40,
    durationMillis: millis
  }]
])("through the package of %s", (provider, facts) => {
  const value = { ...reply, since: "2026-10-01T00:00:00.000Z" }

  it("an object is repaired and recorded, with the facts of each attempt", () => {
    const stop = { ...facts, finishReason: "stop" }
    expect(toldOf(`${provider} object`)).toMatchObject({
      status: "succeeded",
      value,
      outputs: [{ data: value }],
      attempts: [
        { outcome: "invalid", error: expect.stringContaining("pain"), facts: stop },
        { outcome: "succeeded", text: JSON.stringify(reply), facts: stop }
      ]
    })
    expect(toldOf(`${provider} object`)?.facts).toEqual({ ...stop, attempts: 2 })
  })

  it("tool calls are outputs, their ids the parts", () => {
    expect(toldOf(`${provider} tools`)).toMatchObject({
      status: "succeeded",
      value: [["order-test", "call_a", { test: "mri" }], ["patient-reply", "call_b", value]],
      outputs: [{ part: "call_a", data: { test: "mri" } }, { part: "call_b", data: value }],
      facts: { ...facts, finishReason: "tool-calls" }
    })
  })

  it("a stream gives its pieces, and the time of the first", () => {
    const { attempts, value: pieces } = toldOf(`${provider} stream`) ?? { attempts: [], value: [] }
    const texts = (pieces as ReadonlyArray<unknown>).filter((piece) => typeof piece === "string")
    expect(texts.length).toBeGreaterThan(3)
    expect(texts.join("")).toBe(JSON.stringify(reply))
    expect((pieces as ReadonlyArray<unknown>).at(-1)).toEqual(value)
    expect(attempts).toMatchObject([{
      outcome: "succeeded",
      text: JSON.stringify(reply),
      facts: { ...facts, timeToFirstTokenMillis: millis }
    }])
  })

  it("an answer that the package itself refuses is an attempt, with what it cost", () => {
    expect(toldOf(`${provider} bad tool call`)).toMatchObject({
      status: "invalid",
      attempts: [{
        outcome: "invalid",
        error: expect.stringContaining("mri"),
        facts: { responseId: facts.responseId, outputTokens: 20 }
      }]
    })
  })

  it("a limit is a failure without an attempt", () => {
    expect(toldOf(`${provider} limit`)).toMatchObject({
      status: "failed",
      attempts: [],
      facts: { provider, requestModel: facts.requestModel }
    })
  })
})
