/**
 * `sluice invalid`: lists calls whose answer did not fit, prints such an answer, and decodes it again.
 */
import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CallAttempt } from "../../CallAttempt.ts"
import { Inspector, InvalidCall } from "../../Inspector.ts"
import { escape, word } from "../../internal/escape.ts"
import * as InvalidAnswers from "../../InvalidAnswers.ts"
import * as Application from "../Application.ts"
import * as Database from "../Database.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import * as redacting from "../redacting.ts"

/** What `sluice invalid list --json` prints. */
export const InvalidList = Schema.Struct({ calls: Schema.Array(InvalidCall) })
/** What `sluice invalid show --json` prints. */
export const InvalidShown = Schema.Struct({ callId: Schema.String, attempts: Schema.Array(CallAttempt) })
/** What `sluice invalid decode --json` prints. */
export const InvalidDecoded = Schema.Struct({
  callId: Schema.String,
  /** Of the first output. */
  schema: Schema.String,
  version: Schema.Int,
  /** How many there are: an answer may be several tool calls. */
  outputs: Schema.Int
})

const id = options.recordedArgument("call", "the call's id")

const inWords = (calls: ReadonlyArray<InvalidCall>, limit: number): ReadonlyArray<string> =>
  calls.length === 0
    ? ["no call is invalid"]
    : [
      ...calls.flatMap(({ attempts, callId, error, finishedAt, kept, namespace, service }) => [
        `${word(callId)} of ${escape(namespace)}, ${escape(service)}`,
        `  ${DateTime.formatIso(finishedAt)}, ${print.counted(attempts, "answer")}${
          kept ? "" : ", no text of which is kept"
        }`,
        print.fit(`  ${print.first(error)}`)
      ]),
      ...calls.length === limit ? [`there may be more than ${limit}: see --limit`] : []
    ]

/** Lists them. */
const list = Command.make(
  "list",
  {
    ...options.common,
    namespace: options.recordedName("namespace", "only of this namespace"),
    limit: options.limit(20)
  },
  ({ limit, namespace, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const request = { limit, namespace: Option.getOrUndefined(namespace) }
      const calls = yield* redacting.invalidCalls(yield* Inspector.use((inspector) => inspector.invalid(request)))
      yield* json ? print.json(InvalidList, { calls }) : print.lines(inWords(calls, limit))
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription("Calls whose answer did not fit, the latest first"),
  Command.withExamples([{ command: "sluice invalid list --namespace chatlab", description: "Of one namespace" }])
)

/** Prints the answers of one. */
const show = Command.make(
  "show",
  { ...options.common, call: id },
  ({ call, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const view = yield* Inspector.use((inspector) => inspector.call(call))
      if (Option.isNone(view)) return yield* new Failed({ reason: `there is no call ${word(call)}` })
      const { attempts, callId } = yield* redacting.call(view.value)
      if (json) return yield* print.json(InvalidShown, { callId, attempts })
      if (attempts.length === 0) return yield* print.line(`no answer of call ${word(callId)} is kept`)
      yield* print.lines(attempts.flatMap(({ at, error, length, outcome, text }, index) => [
        `answer ${index + 1}: ${outcome}, ${DateTime.formatIso(at)}`,
        ...error === null ? [] : [`  ${print.first(error)}`],
        ...text === null ? ["  its text is not kept"] : print.marked(text),
        ...text !== null && text.length < length ? [`  cut: it had ${length} characters`] : []
      ]))
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription("All answers of a call, unchanged"),
  Command.withExamples([{ command: "sluice invalid show call-17", description: "By the call's id" }])
)

/** Decodes one again. */
const decode = Command.make(
  "decode",
  {
    ...options.common,
    call: id,
    schema: options.recordedName("schema", "the schema identity to decode with; without, the one that fits"),
    handlers: Application.handlersFlag
  },
  ({ call, handlers, schema, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const { outputs } = yield* InvalidAnswers.decode(call, { schema: Option.getOrUndefined(schema) })
      const [output] = outputs
      const decoded = {
        callId: call,
        schema: output?.schema ?? "",
        version: output?.version ?? 0,
        outputs: outputs.length
      }
      const all = outputs.length === 1 ? "" : ` and ${print.counted(outputs.length - 1, "more output")}`
      yield* json
        ? print.json(InvalidDecoded, decoded)
        : print.line(
          `call ${word(call)} is recorded as ${
            escape(decoded.schema)
          }, version ${decoded.version}${all}; drain persists ${all === "" ? "it" : "them"}`
        )
    }).pipe(Effect.provide(Application.layer(Database.storesAsTheyAre(url), handlers)), told)
).pipe(
  Command.withDescription(
    "Decode the latest answer of an invalid call with the schema of the handlers that are found, and record it: no model is asked"
  ),
  Command.withShortDescription("Decode an answer again, after a fix of its schema"),
  Command.withExamples([{ command: "sluice invalid decode call-17", description: "With the handlers in ./**/persist" }])
)

/** The command. */
export const invalid = Command.make("invalid").pipe(
  Command.withDescription("List, show or decode answers that did not fit"),
  Command.withExamples([
    { command: "sluice invalid list", description: "The latest" },
    { command: "sluice invalid decode call-17", description: "With the present schema, without asking the model again" }
  ]),
  Command.withSubcommands([list, show, decode])
)
