/**
 * Calls as JSON, and the keys of their chunks.
 */
import { it } from "@effect/vitest"
import { ServiceCall } from "effect-sluice"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describe, expect } from "vitest"

const codec = Schema.fromJsonString(ServiceCall.ServiceCall)
const schema = "schemas.chatlab.standardized_patient.patient-reply"
const line = {
  callId: "call-1",
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  correlationId: "thread-1",
  context: { simulationId: "knee", nested: [1, null, { deep: true }] },
  input: { user_message: "Does it hurt?" },
  orderingKey: "knee",
  priority: 3,
  notBefore: "2026-01-01T09:00:00.000Z",
  startedAt: "2026-01-01T07:59:00.000Z",
  finishedAt: "2026-01-01T08:00:00.000Z",
  details: { provider: "p", usage: { tokens: 12 } },
  trace: { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", sampled: true },
  outputs: [{ schema, version: 3, data: { messages: [] } }, { schema, version: 3, part: "second", data: null }]
}

describe("a recorded call", () => {
  it.effect("goes through JSON and back", () =>
    Effect.gen(function*() {
      const call = yield* Schema.decodeEffect(codec)(JSON.stringify(line))
      expect(call.finishedAt && DateTime.toEpochMillis(call.finishedAt)).toBe(Date.UTC(2026, 0, 1, 8))
      expect(JSON.parse(yield* Schema.encodeEffect(codec)(call))).toEqual(line)
    }))

  const wrong: ReadonlyArray<readonly [name: string, text: string, where: string]> = [
    ["a text that is cut off", JSON.stringify(line).slice(0, 100), "JSON"],
    ["a list", "[]", "Expected object"],
    ["no id", JSON.stringify({ ...line, callId: undefined }), "[\"callId\"]"],
    [
      "a version that is none",
      JSON.stringify({ ...line, outputs: [{ schema, version: "3", data: 1 }] }),
      "[\"version\"]"
    ],
    ["a date that is none", JSON.stringify({ ...line, finishedAt: "yesterday" }), "[\"finishedAt\"]"],
    ["outputs that are none", JSON.stringify({ ...line, outputs: null }), "[\"outputs\"]"]
  ]
  for (const [name, text, where] of wrong) {
    it.effect(`with ${name} does not decode, and says where`, () =>
      Effect.gen(function*() {
        expect(String(yield* Effect.flip(Schema.decodeEffect(codec)(text)))).toContain(where)
      }))
  }

  it("has chunks whose keys print differently, whatever stands in ids and parts", () => {
    const texts = ["a", "p", "a p", "a#p", "\"a\"", "a schemas.a.b.c#p", "p schemas.a.b.c", "🩺", "\n", "\\", "a\\\""]
    const keys = texts.flatMap((callId) =>
      ["", ...texts].flatMap((part) =>
        ["schemas.a.b.c", "schemas.a.b.cc"].map((schemaIdentity) => ({ callId, schemaIdentity, part }))
      )
    )
    expect(new Set(keys.map(ServiceCall.printKey)).size).toBe(keys.length)
    expect(ServiceCall.printKey(keys[0]!)).toBe("a schemas.a.b.c")
    // a log line stays one line
    expect(keys.map(ServiceCall.printKey).filter((text) => text.includes("\n"))).toEqual([])
  })
})
