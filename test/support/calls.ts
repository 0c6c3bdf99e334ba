/**
 * Calls as callers without types may give them: what can be recorded, and what cannot, where the trouble is, and what is
 * said of it.
 */
import type { ServiceCall } from "effect-sluice"
import * as DateTime from "effect/DateTime"
import { call, reply } from "../contract/operators/dialogues.ts"

/** A call with one answer, whatever it is. */
export const withData = (data: unknown) => ({ ...call("a"), outputs: [{ schema: reply, version: 1, data }] })
const withOutput = (fields: object) => ({ ...call("a"), outputs: [{ schema: reply, version: 1, data: 1, ...fields }] })
const nested = (depth: number): unknown => JSON.parse(`${"[".repeat(depth)}${"]".repeat(depth)}`)
/** A value that is small and holds itself so often that nobody could write it down. */
const shared = Array.from({ length: 60 }).reduce<unknown>((half) => [half, half], "ouch")
const cycle: { self?: unknown } = {}
cycle.self = cycle
class Note {
  readonly text = "a"
}
const throwing = {
  enumerable: true,
  get: (): never => {
    throw new Error("not today")
  }
}
const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}
/** A trace as it must be. */
export const trace = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", sampled: true }

/** What is no trace, as other tools write one, or somebody hostile. */
export const noTraces: ReadonlyArray<readonly [name: string, trace: unknown]> = [
  ["a header", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
  ["a UUID with dashes", { ...trace, traceId: "018f3d2a-7c1e-7000-8000-000000000000" }],
  ["zeros only", { ...trace, traceId: "0".repeat(32) }],
  ["a span of zeros only", { ...trace, spanId: "0".repeat(16) }],
  ["ids that are too short", { ...trace, traceId: "a", spanId: "b" }],
  ["markup", { ...trace, traceId: "not hex <script>" }],
  ["a line end behind it", { ...trace, traceId: `${trace.traceId}\n` }],
  ["NUL", { ...trace, spanId: "\u0000" }],
  ["a number", { ...trace, spanId: 7 }],
  ["sampled in words", { ...trace, sampled: "yes" }],
  ["half of it", { traceId: trace.traceId }],
  ["null", null],
  ["a bigint", 7n],
  ["a getter that throws", Object.defineProperty({ ...trace }, "spanId", throwing)]
]

/** The most bytes of JSON these calls may hold, and the most outputs. */
export const maxResultBytes = 10_000
export const maxOutputs = 20

/** What cannot be recorded. */
export const refused: ReadonlyArray<readonly [name: string, call: unknown, path: string, reason: RegExp]> = [
  // no calls at all
  ["nothing", undefined, "call", /not an object/],
  ["null", null, "call", /not an object/],
  ["a number", 7, "call", /not an object/],
  ["a text", "call-1", "call", /not an object/],
  ["a list", [call("a")], "call", /not an object/],
  ["a function", () => call("a"), "call", /not an object/],
  ["an empty object", {}, "callId", /not a string/],
  [
    "one that throws when it is read",
    Object.defineProperty({ ...call("a") }, "context", throwing),
    "call",
    /not today/
  ],
  ["one that cannot be read", revoked(), "call", /cannot be read/],

  // ids and identities
  ["a number as id", { ...call("a"), callId: 7 }, "callId", /not a string/],
  ["an empty id", call(""), "callId", /empty/],
  ["an id that is too long", call("x".repeat(65)), "callId", /65 characters/],
  ["an id of a page", call("x".repeat(100_000)), "callId", /100000 characters/],
  ["an id of half a gigabyte", call("x".repeat(2 ** 29 - 100)), "callId", /536870812 characters/],
  ["an id with NUL", call("a\u0000b"), "callId", /u0000/],
  ["an id that is half an emoji", call("\ud83e"), "callId", /lone surrogate/],
  ["no namespace", { ...call("a"), namespace: "" }, "namespace", /empty/],
  ["a namespace that is missing", { ...call("a"), namespace: undefined }, "namespace", /not a string/],
  ["a namespace with a dot", { ...call("a"), namespace: "a.b" }, "namespace", /may hold only/],
  ["a namespace of emoji", { ...call("a"), namespace: "🩺" }, "namespace", /may hold only/],
  ["a namespace of SQL", { ...call("a"), namespace: "a'; drop table x; --" }, "namespace", /may hold only/],
  ["a namespace of two lines", { ...call("a"), namespace: "a\nb" }, "namespace", /may hold only/],
  ["a hostile service", { ...call("a"), service: "services.a.b.c'\n\u202e" }, "service", /may hold only/],
  ["a service that is none", { ...call("a"), service: "generate-reply" }, "service", /1 part and not 4/],
  ["a service of a page", { ...call("a"), service: "x".repeat(100_000) }, "service", /1 part and not 4/],
  ["a service of a domain of a page", { ...call("a"), service: `${"x".repeat(9999)}.a.b.c` }, "service", /not one of/],
  ["a service that is missing", { ...call("a"), service: undefined }, "service", /not a string/],
  ["a service of another domain", { ...call("a"), service: reply }, "service", /domain schemas, not services/],
  ["an empty correlation id", { ...call("a"), correlationId: "" }, "correlationId", /empty/],
  ["a correlation id of another type", { ...call("a"), correlationId: 1 }, "correlationId", /not a string/],
  ["a correlation id with NUL", { ...call("a"), correlationId: "\u0000" }, "correlationId", /u0000/],
  ["an ordering key with NUL", { ...call("a"), orderingKey: "a\u0000" }, "orderingKey", /u0000/],
  ["a long ordering key", { ...call("a"), orderingKey: "k".repeat(257) }, "orderingKey", /longer than 256/],

  // the other fields
  ["a priority below 0", { ...call("a"), priority: -1 }, "priority", /0 to 1000/],
  ["half a priority", { ...call("a"), priority: 0.5 }, "priority", /0 to 1000/],
  ["a priority in words", { ...call("a"), priority: "urgent" }, "priority", /0 to 1000/],
  ["a priority of a page", { ...call("a"), priority: "x".repeat(100_000) }, "priority", /0 to 1000/],
  ["context that is a list", { ...call("a"), context: [] }, "context", /not an object/],
  ["context that is a text", { ...call("a"), context: "knee" }, "context", /not an object/],
  ["context that is null", { ...call("a"), context: null }, "context", /not an object/],
  ["context with a date", { ...call("a"), context: { at: new Date(0) } }, "context.at", /is a Date/],
  ["NUL in a key of the context", { ...call("a"), context: { "a\u0000": 1 } }, "a key of context", /u0000/],
  ["half an emoji in a key", { ...call("a"), context: { "\udc00": 1 } }, "a key of context", /lone surrogate/],
  ["input that is no JSON", { ...call("a"), input: { ask: () => 1 } }, "input.ask", /type function/],
  ["a trace that throws", Object.defineProperty({ ...call("a") }, "trace", throwing), "call", /cannot be read/],
  ["a date that is none", { ...call("a"), finishedAt: "yesterday" }, "finishedAt", /not a DateTime/],
  ["a Date that is no DateTime", { ...call("a"), startedAt: new Date(0) }, "startedAt", /not a DateTime/],
  ["a date before all dates", { ...call("a"), notBefore: DateTime.makeUnsafe(-8.64e15) }, "notBefore", /years 1 and/],
  ["a date after all dates", { ...call("a"), finishedAt: DateTime.makeUnsafe(8.64e15) }, "finishedAt", /1 and 9999/],

  // outputs
  ["no outputs", { ...call("a"), outputs: [] }, "outputs", /empty/],
  ["outputs that are missing", { ...call("a"), outputs: undefined }, "outputs", /not an array/],
  ["outputs that are no list", { ...call("a"), outputs: {} }, "outputs", /not an array/],
  ["an output that is none", { ...call("a"), outputs: [null] }, "outputs[0]", /not an output/],
  ["a hole among the outputs", { ...call("a"), outputs: Array.from({ length: 1 }) }, "outputs[0]", /not an output/],
  ["an output without schema", { ...call("a"), outputs: [{ version: 1, data: 1 }] }, "outputs[0]", /no schema/],
  ["a number as schema", withOutput({ schema: 7 }), "outputs[0].schema", /not a string/],
  ["an output without version", withOutput({ version: undefined }), "outputs[0].version", /undefined/],
  ["a schema identity of three parts", withOutput({ schema: "schemas.a.b" }), "outputs[0].schema", /3 parts/],
  ["a schema of services", withOutput({ schema: call("a").service }), "outputs[0].schema", /domain services/],
  [
    "a hostile schema identity",
    withOutput({ schema: "schemas.a.b.c'; drop table x; --" }),
    "outputs[0].schema",
    /may hold only/
  ],
  ["a schema identity with a quote", withOutput({ schema: "schemas.a.b.c\"" }), "outputs[0].schema", /may hold only/],
  ["a schema identity of two lines", withOutput({ schema: "schemas.a.b.c\nd" }), "outputs[0].schema", /may hold only/],
  ["one from right to left", withOutput({ schema: "schemas.a.b.\u202ec" }), "outputs[0].schema", /may hold only/],
  ["a schema identity of emoji", withOutput({ schema: "schemas.a.b.🩺" }), "outputs[0].schema", /may hold only/],
  ["a schema identity with NUL", withOutput({ schema: "schemas.a.b.c\u0000" }), "outputs[0].schema", /may hold only/],
  ["an empty schema identity", withOutput({ schema: "" }), "outputs[0].schema", /1 part and not 4/],
  ["version 0", withOutput({ version: 0 }), "outputs[0].version", /from 1/],
  ["version one and a half", withOutput({ version: 1.5 }), "outputs[0].version", /from 1/],
  ["a version in words", withOutput({ version: "1" }), "outputs[0].version", /from 1/],
  ["a version beyond integers", withOutput({ version: 2 ** 31 }), "outputs[0].version", /from 1/],
  [
    "more outputs than there may be",
    { ...call("a"), outputs: Array.from({ length: 21 }, (_, n) => ({ ...call("a").outputs[0], part: `${n}` })) },
    "outputs",
    /21 outputs, more than 20 \(SLUICE_MAX_OUTPUTS/
  ],
  ["a million outputs", { ...call("a"), outputs: Array.from({ length: 1e6 }) }, "outputs", /SLUICE_MAX_OUTPUTS/],
  [
    "two outputs with one schema and part",
    {
      ...call("a"),
      outputs: [{ schema: reply, version: 1, data: 1 }, { schema: reply, version: 2, data: 2, part: "" }]
    },
    "outputs[1]",
    /give each its own part/
  ],
  ["a part that is no text", withOutput({ part: 1 }), "outputs[0].part", /not a string/],
  ["a part that is too long", withOutput({ part: "p".repeat(129) }), "outputs[0].part", /longer than 128/],
  ["a part with NUL", withOutput({ part: "\u0000" }), "outputs[0].part", /u0000/],
  ["NUL beside the data", withOutput({ raw: "\u0000" }), "outputs[0].raw", /u0000/],
  ["an output with its own way to JSON", withOutput({ toJSON: () => 1 }), "outputs[0]", /toJSON/],

  // data
  ["no data", withData(undefined), "outputs[0].data", /type undefined/],
  ["undefined", withData({ text: undefined }), "outputs[0].data.text", /type undefined/],
  ["a function in it", withData({ text: () => 1 }), "outputs[0].data.text", /type function/],
  ["a bigint", withData(1n), "outputs[0].data", /type bigint/],
  ["a symbol", withData([Symbol("x")]), "outputs[0].data[0]", /type symbol/],
  ["a Date", withData({ at: new Date(0) }), "outputs[0].data.at", /is a Date/],
  ["a Map", withData(new Map()), "outputs[0].data", /is a Map/],
  ["bytes", withData(new Uint8Array(2)), "outputs[0].data", /is a Uint8Array/],
  ["a class of the application", withData([new Note()]), "outputs[0].data[0]", /is a Note/],
  ["a promise", withData(Promise.resolve(1)), "outputs[0].data", /is a Promise/],
  ["a list with its own way to JSON", withData(Object.assign([1], { toJSON: () => {} })), "outputs[0].data", /toJSON/],
  ["a value that throws when it is read", withData(Object.defineProperty({}, "a", throwing)), "call", /not today/],
  ["NaN", withData(Number.NaN), "outputs[0].data", /NaN/],
  ["Infinity", withData([1, -Infinity]), "outputs[0].data[1]", /-Infinity/],
  ["a cycle", withData(cycle), "outputs[0].data.self.self", /holds itself/],
  ["a hole in a list", withData(Array.from({ length: 2 }).fill(1, 1)), "outputs[0].data[0]", /undefined/],
  ["600 levels", withData(nested(600)), "outputs[0].data[0][0]", /more than 512 deep/],
  [
    "NUL deep down",
    withData({ messages: [{ "the text": "a\u0000" }] }),
    "outputs[0].data.messages[0][\"the text\"]",
    /u0000/
  ],
  ["a lone surrogate", withData(["\udc00"]), "outputs[0].data[0]", /lone surrogate/],
  ["surrogates the wrong way round", withData("\udd25\ud83d"), "outputs[0].data", /lone surrogate/],
  ["a version below 0", withOutput({ version: -1 }), "outputs[0].version", /from 1/],
  ["a version that is no number", withOutput({ version: Number.NaN }), "outputs[0].version", /from 1/],
  ["a number beyond all doubles", withData(JSON.parse("1e400")), "outputs[0].data", /Infinity/],
  ["10 MB of text", withData("x".repeat(10_000_000)), "outputs", /SLUICE_MAX_RESULT_BYTES/],
  ["10 MB of small things", withData(Array.from({ length: 1_000_000 }, () => [1])), "outputs", /SLUICE_MAX_RESULT/],
  ["10 MB of context", { ...call("a"), context: { x: "x".repeat(10_000_000) } }, "context", /SLUICE_MAX_RESULT_BYTES/],
  ["much more JSON than it is in memory", withData(shared), "outputs", /more than 10000 .*SLUICE_MAX_RESULT_BYTES/],
  ["the same as input", { ...call("a"), input: shared }, "input", /more than 10000 .*SLUICE_MAX_RESULT_BYTES/],
  ["more outputs than could be read", { ...call("a"), outputs: Array(4e9) }, "outputs", /SLUICE_MAX_OUTPUTS/],
  [
    "outputs with an iterator of their own that has no end",
    {
      ...call("a"),
      outputs: Object.assign([], {
        *[Symbol.iterator]() {
          while (true) yield call("a").outputs[0]
        }
      })
    },
    "outputs",
    /is empty/
  ],
  ["100,000 levels", withData(nested(100_000)), "outputs[0].data[0][0]", /more than 512 deep/],
  [
    "names that are more than the data",
    {
      ...call("a"),
      outputs: Array.from(
        { length: 20 },
        (_, n) => ({ schema: reply, version: 1, part: `${n}`.padEnd(128), data: "x".repeat(60) })
      ),
      input: "x".repeat(4700)
    },
    "outputs",
    /and the call \d+ altogether, more than 10000/
  ],
  ["more than the configured size", withData("x".repeat(maxResultBytes)), "outputs", /SLUICE_MAX_RESULT_BYTES/]
]

/** What looks bad and can be recorded. */
export const fine: ReadonlyArray<readonly [name: string, call: ServiceCall.ServiceCall]> = [
  ["64 characters, an emoji counted as one", call("🩺".repeat(64))],
  ["a hostile id", call("'; drop table sluice.chunk_queue; -- \n\t\u202e\\ \" <script>")],
  ["an id that is a blank", call(" ")],
  ["hostile keys beside it", { ...call("a"), orderingKey: "';--", correlationId: "\u202e\n" }],
  ["a hostile part", withOutput({ part: "'; --\n🩺" })],
  ["a part that is given as none", withOutput({ part: undefined })],
  ["100 levels", withData(nested(100))],
  ["numbers beyond 2^53", withData([2 ** 60, 1e300, 5e-324, -1e-7])],
  ["numbers in words that are no numbers", withData(["NaN", "Infinity", "9007199254740993"])],
  ["an object without prototype", withData(Object.assign(Object.create(null), { a: 1 }))],
  ["keys that are words to JavaScript", withData(JSON.parse(`{"__proto__": {"x": 1}, "constructor": 1, "toJSON": 2}`))],
  ["keys that are empty or hostile", withData({ "": 1, "a\"b\\": 2, "🩺\n\u2028": 3 })],
  [
    "emoji, right-to-left and controls",
    withData(["🧑🏽‍⚕️", "\u202eabc\u202c", "\u0001\u001f\u007f\u0085", "\ufffd\ufeff"])
  ],
  ["null", withData(null)],
  ["JSON cut off, as a text", withData("{\"text\": \"a no")],
  ["data of another type than its schema's", withData([7, "x", false])],
  ["data without its fields", withData({})],
  ["a schema nobody knows", withOutput({ schema: "schemas.clinic.ward.unheard-of" })],
  ["a version of the future", withOutput({ version: 2 ** 31 - 1 })],
  ["a namespace nobody knows", { ...call("a"), namespace: "unheard-of" }],
  ["a date that is only a text", withData({ at: "300000-99-99" })],
  ["512 levels", withData(nested(511))],
  [
    "as many outputs as there may be",
    {
      ...call("a"),
      outputs: Array.from({ length: 20 }, (_, n) => ({ schema: reply, version: 1, part: `${n}`, data: n }))
    }
  ],
  ["a field nobody asked for", withOutput({ raw: { text: "as it came" } })],
  ["the first and the last day", {
    ...call("a"),
    startedAt: DateTime.makeUnsafe("0001-01-01T00:00:00Z"),
    finishedAt: DateTime.makeUnsafe("9999-12-31T23:59:59.999Z")
  }],
  ["a trace", { ...call("a"), trace }],
  ["as much as the configured size", withData("x".repeat(maxResultBytes - 200))]
  // what the compiler would not have let through as well
] as ReadonlyArray<readonly [string, ServiceCall.ServiceCall]>
