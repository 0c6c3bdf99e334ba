/**
 * `sluice erase`: forgets what is recorded of a call, a conversation, or a subject named in the context.
 */
import * as Command from "effect/cli/Command"
import * as Config from "effect/Config"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { constant } from "effect/Function"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Erased, Erasure, ErasureRecord, Subject } from "../../Erasure.ts"
import { escape, word } from "../../internal/escape.ts"
import * as Database from "../Database.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"

/** What `sluice erase --list --json` prints. */
export const Erasures = Schema.Struct({ erasures: Schema.Array(ErasureRecord) })

interface Given {
  readonly call: Option.Option<string>
  readonly correlation: Option.Option<string>
  readonly where: Option.Option<string>
}

/** The subject of a condition `context.key=value`. */
const inContext = (condition: string): Effect.Effect<Subject, Failed> => {
  const [, key, value] = /^context\.([^=]*[^=\s])=([^]+)$/.exec(condition) ?? []
  return key === undefined || value === undefined
    ? new Failed({ reason: `--where: ${word(condition)} is not a condition: write context.patientId=4711` })
    : Effect.succeed(Subject.Context({ key, value }))
}

/** The one subject that is named. */
const subjectOf = ({ call, correlation, where }: Given): Effect.Effect<Subject, Failed> => {
  const subjects = [
    ...Option.toArray(call).map((callId) => Effect.succeed<Subject>(Subject.Call({ callId }))),
    ...Option.toArray(correlation).map((correlationId) =>
      Effect.succeed<Subject>(Subject.Correlation({ correlationId }))
    ),
    ...Option.toArray(where).map(inContext)
  ]
  return subjects.length === 1 && subjects[0] !== undefined
    ? subjects[0]
    : new Failed({ reason: "say whose data, by one of --call, --correlation and --where" })
}

/** The user of this process, recorded if `--by` does not say who asked for the erasure. */
const userName = Effect.orElseSucceed(Config.option(Config.String("USER")), Option.none)

/** The most rows of the application, and erasures, that are printed as text. */
const most = 100

const inWords = (erased: Erased, dryRun: boolean, subject: Subject): ReadonlyArray<string> => {
  if (erased.calls === 0) {
    return [
      "nothing to erase: no recorded call is of this subject, or it is erased already",
      ...subject._tag === "Context" && subject.key.includes(".")
        ? [`${word(subject.key)} is looked for as one key of the context, not as a key within another`]
        : []
    ]
  }
  const { objects } = erased
  return [
    `${print.counted(erased.calls, "call")} ${dryRun ? "would be erased" : "erased"}, with ` +
    `${print.counted(erased.chunks, "outstanding chunk")}, ${print.counted(erased.deadLetters, "dead letter")} and ` +
    print.counted(erased.failures, "failure"),
    ...objects.length === 0
      ? []
      : [
        `${print.counted(objects.length, "row")} of the application ${
          objects.length === 1 ? "was" : "were"
        } made of it, and ${objects.length === 1 ? "is" : "are"} the application's to erase:`
      ],
    ...objects.slice(0, most).map(({ id, type }) => `  ${word(`${type}:${id}`)}`),
    ...print.more(objects.length, most, "rows", "--json has all").map((text) => `  ${text}`)
  ]
}

const recordInWords = (one: ErasureRecord): ReadonlyArray<string> => [
  `erasure ${one.id}, ${DateTime.formatIso(one.begunAt)}, by ${one.by === "" ? "nobody named" : escape(one.by)}: ${
    escape(one.because)
  }`,
  `  ${print.counted(one.calls, "call")}, ${print.counted(one.chunks, "outstanding chunk")}, ` +
  `${print.counted(one.deadLetters, "dead letter")}, ${print.counted(one.failures, "failure")}; ` +
  `named by ${one.subject === "context" ? `the context's ${word(one.contextKey ?? "")}` : `its ${one.subject}`}` +
  (one.finishedAt === null ? "; under way, or cut off: if so, do it again" : "")
]

const list = Effect.fnUntraced(function*(json: boolean) {
  const erasures = yield* Erasure.use((erasure) => erasure.list({ limit: json ? 10_000 : most }))
  if (json) return yield* print.json(Erasures, { erasures })
  yield* print.lines(erasures.length === 0 ? ["there were no erasures"] : erasures.flatMap(recordInWords))
})

/** The command. */
export const erase = Command.make(
  "erase",
  {
    ...options.common,
    call: options.recordedName("call", "erase this call"),
    correlation: options.recordedName("correlation", "erase the calls with this correlation id"),
    where: options.recordedName("where", "erase the calls whose context has this value: context.patientId=4711"),
    because: options.text("because", "the reason; it stays on record, so do not name the subject in it"),
    by: options.text("by", "who asks for the erasure; default $USER"),
    dryRun: options.on("dry-run", "only report how much it would erase"),
    list: options.on("list", "list the erasures so far")
  },
  ({ url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      if (given.list) return yield* list(json)
      const subject = yield* subjectOf(given)
      const because = Option.filter(given.because, (text) => text.trim() !== "")
      if (Option.isNone(because) && !given.dryRun) {
        return yield* new Failed({ reason: "give the reason, which is stored: --because" })
      }
      const by = Option.orElse(given.by, constant(yield* userName))
      const reason = { because: Option.getOrElse(because, () => ""), by: Option.getOrElse(by, () => "") }
      const erased = yield* Erasure.use((erasure) =>
        given.dryRun ? erasure.preview(subject) : erasure.erase(subject, reason)
      )
      if (json) return yield* print.json(Erased, erased)
      yield* print.lines(inWords(erased, given.dryRun, subject))
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription(
    "Erase what is recorded about a subject: payloads, context, outstanding chunks, dead letters, failures. Call ids, facts and " +
      "the ledger stay; an erased call is never recorded or run again"
  ),
  Command.withShortDescription("Erase what is recorded about a subject; the ledger stays"),
  Command.withExamples([
    { command: "sluice erase --where context.patientId=4711 --dry-run", description: "See how much it would erase" },
    {
      command: "sluice erase --where context.patientId=4711 --because \"asked for in letter 12\"",
      description: "Erase a patient's calls"
    },
    { command: "sluice erase --list", description: "What was erased, by whom, and why" }
  ])
)
