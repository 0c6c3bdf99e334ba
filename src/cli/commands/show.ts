/**
 * `sluice show`: prints a call with all its chunks, or the call that created a row of the application.
 */
import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { CallAttempt } from "../../CallAttempt.ts"
import type { CallFacts } from "../../CallFacts.ts"
import type { FailureRecord } from "../../CallView.ts"
import type { DomainObject } from "../../DomainObject.ts"
import { CallView, type ChunkView, Inspector } from "../../Inspector.ts"
import { escape, word } from "../../internal/escape.ts"
import * as Kind from "../../Kind.ts"
import { Retention } from "../../Retention.ts"
import * as Database from "../Database.ts"
import { Failed, told } from "../Failed.ts"
import * as insideUse from "../insideUse.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import * as redacting from "../redacting.ts"

/** The rows that `TYPE:ID` may name: a type may contain colons, too. */
const objectsOf = (what: string): ReadonlyArray<DomainObject> =>
  [...what.matchAll(/:/g)].slice(0, 8)
    .map(({ index }) => ({ type: what.slice(0, index), id: what.slice(index + 1) }))
    .filter(({ id, type }) => type !== "" && id !== "")

/** What `sluice show --json` prints. */
export const Shown = Schema.Struct({ calls: Schema.Array(CallView) })

/** Why a chunk is not persisted yet. */
const holdUp = ({ behind, dueAt, leasedBy, leasedUntil, parkedFor, state }: ChunkView): string | undefined => {
  const time = (at: DateTime.Utc | null) => at === null ? "" : DateTime.formatIso(at)
  switch (state) {
    case "in-flight":
      return `held by worker ${escape(leasedBy ?? "")} until ${time(leasedUntil)}, unless renewed`
    case "scheduled":
      return `not before ${time(dueAt)}`
    case "parked":
      return print.parked(parkedFor)
    case "waiting":
    case "ready":
      return behind === null ? undefined : `behind call ${word(behind)} of its ordering key`
    default:
      return undefined
  }
}

/** The output of the call that a chunk belongs to. */
const outputOf = ({ part, schemaIdentity }: ChunkView["key"]): string =>
  `${escape(schemaIdentity)}${part === "" ? "" : `#${word(part)}`}`

const attemptOf = ({ attempt, kind }: FailureRecord): string => `attempt ${attempt}, ${kind}`

const chunkInWords = (unfitOf: insideUse.UnfitOf) => (chunk: ChunkView): ReadonlyArray<string> => {
  const unfit = chunk.parkedFor === "no-handler" ? unfitOf(Kind.of(chunk)) : undefined
  const why = unfit ?? holdUp(chunk)
  const { attempts, crashes, death, failures, ledger } = chunk
  const objects = ledger?.objects ?? []
  return [
    `  ${outputOf(chunk.key)}: ${chunk.state}`,
    // names are not shortened, so they can be copied
    ...why === undefined ? [] : [`    ${why}`],
    ...attempts + crashes === 0 ? [] : [
      `    ${print.counted(attempts, "failed attempt")}, ${print.counted(crashes, "crash", "crashes")}`
    ],
    ...ledger === null
      ? []
      : [`    by ${escape(ledger.handler)} at ${DateTime.formatIso(ledger.persistedAt)}`],
    ...objects.slice(0, mostObjects).map(({ id, type }) => `    ${word(`${type}:${id}`)}`),
    ...print.more(objects.length, mostObjects, "objects", "--json has all").map((text) => `    ${text}`),
    ...failures.slice(0, -1).map((failure) => print.fit(`    ${attemptOf(failure)}: ${print.first(failure.message)}`)),
    ...failures.slice(-1).flatMap((failure) => [
      `    ${attemptOf(failure)}:`,
      ...print.marked(failure.message, "      ")
    ]),
    ...death === null
      ? []
      : [
        print.fit(
          `    dead (${death.reason})${
            death.message === failures.at(-1)?.message ? "" : `: ${print.first(death.message)}`
          }`
        )
      ]
  ]
}

const factsInWords = (facts: CallFacts): ReadonlyArray<string> => {
  const { cost, inputTokens, outputTokens, promptName, promptVersion, provider, requestModel, responseModel } = facts
  const model = [provider, responseModel ?? requestModel].filter((name) => name !== undefined).join("/")
  const words = [
    model === "" ? "" : `model ${escape(model)}`,
    promptName === undefined ? "" : `prompt ${word(promptName)} ${escape(promptVersion ?? "")}`.trimEnd(),
    inputTokens === undefined ? "" : `${inputTokens} tokens in`,
    outputTokens === undefined ? "" : `${outputTokens} out`,
    cost === undefined ? "" : `${cost.micros / 1e6} ${cost.currency}`
  ].filter((text) => text !== "")
  return words.length === 0 ? [] : [print.fit(`  ${words.join(", ")}`)]
}

const attemptInWords = ({ at, error, length, outcome, text }: CallAttempt, index: number): ReadonlyArray<string> => [
  `  answer ${index + 1}: ${outcome}, ${DateTime.formatIso(at)}${
    text === null && length > 0 ? ", its text was pruned" : text === null ? ", no text" : `, ${length} characters`
  }`,
  ...error === null ? [] : [print.fit(`    ${print.first(error)}`)]
]

/** The most calls, and chunks of a call, that are printed as text. */
const most = 100
/** The most rows of a chunk that are printed as text. */
const mostObjects = 20

const inWords = (unfitOf: insideUse.UnfitOf) => (view: CallView): ReadonlyArray<string> => {
  const { callId, chunks, context, correlationId, error, trace } = view
  const key = chunks.find((chunk) => chunk.orderingKey !== null)?.orderingKey ?? undefined
  return [
    `call ${word(callId)} of ${escape(view.namespace)}`,
    `  ${escape(view.service)}`,
    `  ${view.status}, recorded ${DateTime.formatIso(view.recordedAt)}`,
    ...correlationId === callId ? [] : [`  correlation ${word(correlationId)}`],
    ...key === undefined ? [] : [`  ordering key ${word(key)}`],
    ...Object.keys(context).length === 0 ? [] : [print.fit(`  context ${print.jsonText(context)}`)],
    ...view.erasure === null ? [] : [`  erased, by erasure ${view.erasure}: see \`sluice erase --list\``],
    ...trace === null ? [] : [`  trace ${escape(trace.traceId)}, span ${escape(trace.spanId)}`],
    ...factsInWords(view.facts),
    ...view.attempts.slice(0, most).flatMap(attemptInWords),
    ...error === null ? [] : [print.fit(`  error: ${print.first(error)}`)],
    ...chunks.slice(0, most).flatMap(chunkInWords(unfitOf)),
    ...print.more(chunks.length, most, "outputs", "--json has all").map((text) => `  ${text}`)
  ]
}

const callsThatMade = Effect.fnUntraced(function*(what: string) {
  // a role that may only read skips this: what is not rolled up is searched as well
  yield* Effect.ignore(Retention.use((retention) => retention.rollUp))
  return yield* Inspector.use((inspector) => inspector.callsThatMade(objectsOf(what)))
})

/** The command. */
export const show = Command.make(
  "show",
  {
    ...options.common,
    what: options.recordedArgument("what", "a call's id, or TYPE:ID of a row of your application")
  },
  ({ url, what, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const inspector = yield* Inspector
      const call = yield* inspector.call(what)
      const ids = Option.isSome(call) ? [what] : yield* callsThatMade(what)
      const calls = (yield* Effect.forEach(ids, (id) =>
        Effect.flatMap(
          inspector.call(id),
          (found) => Effect.forEach(Option.toArray(found), redacting.call)
        ))).flat()
      if (calls.length === 0) {
        return yield* new Failed({ reason: `there is no call ${word(what)}, and no call created a row of that name` })
      }
      if (json) return yield* print.json(Shown, { calls })
      const unfitOf = yield* insideUse.unfit
      yield* print.lines([
        ...calls.slice(0, most).flatMap(inWords(unfitOf)),
        ...print.more(calls.length, most, "calls", "--json has all")
      ])
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription("Show a call with its chunks, or the call that created a row"),
  Command.withExamples([
    { command: "sluice show call-17", description: "By the call's id" },
    { command: "sluice show chatlab.Message:42", description: "By a row of your application" }
  ])
)
