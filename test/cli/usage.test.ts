/**
 * What calls used, and answers that did not fit, by the command: an answer that is decoded after a fix is not paid for
 * again.
 */
import { CallRecorder } from "effect-sluice"
import type { CallSpec } from "effect-sluice/ServiceCall"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { afterAll, describe, expect, it } from "vitest"
import { call, reply } from "../contract/operators/dialogues.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"
import { handlers, run } from "./inProcess.ts"

const scope = Scope.makeUnsafe()
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

const specOf = (callId: string): CallSpec => {
  const { outputs: _, ...spec } = call(callId, { namespace: "clinic" })
  return spec
}

/** What the model answers. */
const answers = {
  list: "[{\"text\":\"My knee.\"},{\"txt\":1},{\"text\":\"Ouch.\"}]",
  fenced: "```json\n{\"text\":\"Ouch.\"}\n```"
}

/** A ward whose model answers in a fence or with a list, which its service does not read. */
const ward = Effect.gen(function*() {
  const recorder = yield* CallRecorder.CallRecorder
  const facts = { provider: "openai", requestModel: "gpt-5-mini", inputTokens: 1200, outputTokens: 30 }
  yield* recorder.record(
    call("fits", { namespace: "clinic", facts: { ...facts, cost: { micros: 395, currency: "USD" } } })
  )
  for (const [callId, text] of [...Object.entries(answers), ["other", "{\"txt\":1}"] as const]) {
    yield* Effect.exit(
      recorder.run(
        specOf(callId),
        (run) => Effect.andThen(run.answered({ text, facts }), Effect.fail(`${callId} does not parse`))
      )
    )
  }
})

const url = await Effect.runPromise(
  Effect.gen(function*() {
    const url = yield* migratedDatabase()
    yield* Effect.provide(
      ward,
      CallRecorder.layer.pipe(Layer.provide(PgStore.layer), Layer.provideMerge(client(url)))
    )
    return url
  }).pipe(Scope.provide(scope))
)

const sluice = async (...line: ReadonlyArray<string>) => {
  const { reason, status, stdout } = await run(...line, "--url", url)
  return { status, out: stdout, reason }
}
const json = async (...line: ReadonlyArray<string>) => JSON.parse((await sluice(...line, "--json")).out) as unknown

describe("usage and invalid answers", () => {
  it("usage is printed as a table and as JSON", async () => {
    const { out } = await sluice("usage", "--since", "7d")
    expect(out.split("\n")).toEqual([
      "model              calls  failed  invalid  answers    in  out  cost",
      "openai/gpt-5-mini      4       0        3        3  4.8k  120  0.000395 USD"
    ])
    expect(await json("usage", "--by", "schema")).toMatchObject({
      by: "schema",
      usage: [{ key: "", calls: 3, invalid: 3, inputTokens: 3600 }, { key: reply, calls: 1, inputTokens: 1200 }]
    })
  })

  it("an invalid call is listed, shown, and decoded once its text fits the schema", async () => {
    expect(await json("invalid", "list")).toMatchObject({
      calls: [
        { callId: "other", attempts: 1, kept: true },
        { callId: "fenced", error: "fenced does not parse" },
        { callId: "list" }
      ]
    })
    expect((await sluice("invalid", "show", "fenced")).out).toContain("| {\"text\":\"Ouch.\"}")
    expect((await sluice("show", "fenced")).out).toMatch(
      /invalid, recorded[^]*gpt-5-mini, 1200 tokens in[^]*answer 1: invalid/
    )
    const refused = await sluice("invalid", "decode", "other", ...handlers)
    expect([refused.status, refused.reason]).toEqual([1, expect.stringContaining("it fits none of them")])

    const usedBefore = await json("usage")
    expect(await json("invalid", "decode", "fenced", ...handlers)).toEqual({
      callId: "fenced",
      schema: reply,
      version: 1,
      outputs: 1
    })
    expect(await json("invalid", "list")).toMatchObject({ calls: [{ callId: "other" }, { callId: "list" }] })
    expect(await json("show", "fenced")).toMatchObject({
      calls: [{
        status: "succeeded",
        facts: { inputTokens: 1200 },
        outputs: [{ schema: reply, data: { text: "Ouch." } }],
        chunks: [{ state: "ready" }]
      }]
    })
    // it was counted when it came
    expect(await json("usage")).toEqual(usedBefore)
    expect((await sluice("invalid", "decode", "fenced", ...handlers)).reason).toContain("not invalid but succeeded")
  })

  it("an answer that is a list is decoded as an output for each element, the bad ones with it", async () => {
    expect((await sluice("invalid", "decode", "list", ...handlers)).out).toBe(
      `call list is recorded as ${reply}, version 1 and 2 more outputs; drain persists them`
    )
    expect(await json("show", "list")).toMatchObject({
      calls: [{
        status: "succeeded",
        outputs: [
          { schema: reply, part: "0", data: { text: "My knee." } },
          { part: "1", data: { txt: 1 } },
          { part: "2", data: { text: "Ouch." } }
        ]
      }]
    })
  })
})
