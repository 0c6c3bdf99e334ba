/**
 * `sluice dead`: lists, shows, redrives or discards dead letters.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { DeathReason } from "../../ChunkStore.ts"
import { DeadLetter, DeadLetterCount, DeadLetterDetail, type DeadLetterFilter, DeadLetters } from "../../DeadLetters.ts"
import * as Identity from "../../Identity.ts"
import { escape, word } from "../../internal/escape.ts"
import { printKey } from "../../ServiceCall.ts"
import * as Database from "../Database.ts"
import * as durationFlag from "../durationFlag.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import * as redacting from "../redacting.ts"
import { say } from "../Terminal.ts"

/** What `sluice dead list --json` prints. */
export const DeadList = Schema.Struct({ counts: Schema.Array(DeadLetterCount), letters: Schema.Array(DeadLetter) })
/** What `sluice dead show --json` prints. */
export const DeadShown = Schema.Struct({ letters: Schema.Array(DeadLetterDetail) })
/** What `sluice dead redrive --json` and `dead discard --json` print. */
export const DeadMoved = Schema.Struct({ moved: Schema.Int, preview: Schema.Array(DeadLetterCount) })

const filters = {
  call: options.recordedName("call", "only this call"),
  namespace: options.recordedName("namespace", "only this namespace"),
  schema: options.recordedName("schema", "only this schema: its whole identity"),
  handler: options.recordedName("handler", "only this handler: namespace/name"),
  reason: Flag.Literals("reason", DeathReason.literals).pipe(
    Flag.withDescription("only with this reason"),
    Flag.optional
  ),
  text: options.text("text", "only if the error contains this"),
  olderThan: Flag.optional(durationFlag.flag("older-than", "only what died longer ago than this: 2h")),
  newerThan: Flag.optional(durationFlag.flag("newer-than", "only what died more recently than this")),
  discarded: options.on("discarded", "the discarded ones instead of the open ones")
}

interface Given {
  readonly call: Option.Option<string>
  readonly namespace: Option.Option<string>
  readonly schema: Option.Option<string>
  readonly handler: Option.Option<string>
  readonly reason: Option.Option<DeathReason>
  readonly text: Option.Option<string>
  readonly olderThan: Option.Option<Duration.Duration>
  readonly newerThan: Option.Option<Duration.Duration>
  readonly discarded: boolean
}

const filterOf = (given: Given): DeadLetterFilter => ({
  callId: Option.getOrUndefined(given.call),
  namespace: Option.getOrUndefined(given.namespace),
  schemaIdentity: Option.getOrUndefined(given.schema),
  handler: Option.getOrUndefined(given.handler),
  reason: Option.getOrUndefined(given.reason),
  text: Option.getOrUndefined(given.text),
  olderThan: Option.getOrUndefined(given.olderThan),
  newerThan: Option.getOrUndefined(given.newerThan),
  discarded: given.discarded
})

const isEverything = (given: Given): boolean =>
  Object.entries(given).every(([name, value]) =>
    !(name in filters) || name === "discarded" || (Option.isOption(value) && Option.isNone(value))
  )

/**
 * Notes that nothing was found because `--schema` is not a whole identity: tables print the last part alone, and so it is
 * copied.
 */
const doubt = Effect.fnUntraced(function*(given: Given) {
  const schema = Option.getOrElse(given.schema, () => "")
  if (schema === "" || Result.isSuccess(Identity.parse(schema))) return
  const counts = yield* DeadLetters.use((dead) => dead.count({ discarded: given.discarded }))
  const meant = new Set(
    counts.flatMap(({ schemaIdentity }) => schemaIdentity.endsWith(`.${schema}`) ? [escape(schemaIdentity)] : [])
  )
  const hint = meant.size === 0 ? "" : `: is ${[...meant].slice(0, mostMeant).join(" or ")} meant?`
  yield* say(`note: --schema takes a whole identity, and ${word(schema)} is none${hint}`)
})

/** The most identities that a note names. */
const mostMeant = 3

/** The most kinds in the printed table. */
const mostKinds = 50

const countTable = (counts: ReadonlyArray<DeadLetterCount>): ReadonlyArray<string> => {
  const shown = counts.slice(0, mostKinds)
  // the same short names as in `sluice status`
  const short = print.shortNames(shown.map(({ schemaIdentity }) => schemaIdentity))
  return [
    ...print.table(
      ["kind", "reason", "count"],
      shown.map(({ count, namespace, reason, schemaIdentity }) => [
        print.clip(print.kind(namespace, short(schemaIdentity)), 56),
        reason,
        count
      ])
    ).split("\n"),
    ...print.more(counts.length, mostKinds, "kinds", "--json has all")
  ]
}

/** The most dead letters of one call that are printed as text. */
const mostLetters = 20

/** The most characters of a payload that a person is shown. */
const mostData = 20_000

const dataInWords = (data: Schema.Json): string => {
  const text = print.jsonText(data)
  return text.length <= mostData ? text : `${text.slice(0, mostData)}… (${text.length} characters; --json has all)`
}

/**
 * The error of an attempt, or "as above" if it is the latest one again. Generated ids make equal errors differ in numbers.
 */
const errorOf = (message: string, latest: string): string => {
  const withoutNumbers = (text: string) => text.replaceAll(/\d+/g, "0")
  return message === latest
    ? "as above"
    : withoutNumbers(message) === withoutNumbers(latest)
    ? "as above, with other numbers"
    : print.first(message)
}

const list = Command.make(
  "list",
  {
    ...options.common,
    ...filters,
    limit: options.limit(20)
  },
  ({ limit, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const dead = yield* DeadLetters
      const counts = yield* dead.count(filterOf(given))
      if (counts.length === 0) yield* doubt(given)
      const letters = yield* Effect.flatMap(dead.list(filterOf(given), { limit }), redacting.letters)
      if (json) return yield* print.json(DeadList, { counts, letters })
      if (counts.length === 0) return yield* print.line("no dead letters")
      yield* print.lines([
        ...countTable(counts),
        "",
        ...letters.flatMap(({ attempts, diedAt, key, message, reason }) => {
          const times = print.counted(attempts, "attempt")
          return [
            `${DateTime.formatIso(diedAt)}  ${printKey(key)}`,
            print.fit(`  ${reason} after ${times}: ${print.first(message)}`)
          ]
        })
      ])
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription("List dead letters, the latest first, with counts by kind and reason"),
  Command.withExamples([{
    command: "sluice dead list --reason exhausted",
    description: "List those that failed too often"
  }])
)

const show = Command.make(
  "show",
  { ...options.common, call: options.recordedArgument("call-id", "the call's id") },
  ({ call, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const dead = yield* DeadLetters
      const letters = [
        ...yield* dead.list({ callId: call }, { limit: 1000 }),
        ...yield* dead.list({ callId: call, discarded: true }, { limit: 1000 })
      ]
      if (letters.length === 0) return yield* new Failed({ reason: `call ${word(call)} has no dead letters` })
      const shown = json ? letters : letters.slice(0, mostLetters)
      const found = yield* Effect.forEach(shown, ({ key }) => Effect.map(dead.inspect(key), Option.toArray))
      const details = yield* redacting.details(found.flat())
      if (json) return yield* print.json(DeadShown, { letters: details })
      yield* print.lines([
        ...details.flatMap(({ data, failures, letter }) => [
          `${printKey(letter.key)}: ${letter.reason}`,
          ...print.marked(letter.message),
          ...failures.map(({ at, attempt, kind, message }) =>
            print.fit(
              `  ${DateTime.formatIso(at)} attempt ${attempt}, ${kind}: ${errorOf(message, letter.message)}`
            )
          ),
          `  data: ${dataInWords(data)}`,
          ...letter.discarded === null ? [] : [`  discarded: ${escape(letter.discarded.reason)}`]
        ]),
        ...print.more(letters.length, mostLetters, "dead letters", "--json has all")
      ])
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription("Show a call's dead letters: errors, history, payload"),
  Command.withExamples([{ command: "sluice dead show call-17", description: "Show those of one call" }])
)

const dryRun = options.on("dry-run", "only report what it would move")
const all = options.on("all", "all of them; needed when there is no filter")

const moved = Effect.fnUntraced(function*(
  given: Given & { readonly json: Option.Option<boolean>; readonly dryRun: boolean; readonly all: boolean },
  move: Effect.Effect<number, unknown, DeadLetters>,
  done: string
) {
  if (isEverything(given) && !given.all) {
    return yield* new Failed({ reason: "say which: give a filter, or --all" })
  }
  const preview = yield* DeadLetters.use((dead) => dead.count(filterOf(given)))
  if (preview.length === 0) yield* doubt(given)
  const count = given.dryRun ? 0 : yield* move
  const json = yield* options.switchOf(given.json, "SLUICE_JSON")
  if (json) return yield* print.json(DeadMoved, { moved: count, preview })
  yield* print.lines([
    ...preview.length === 0 ? [] : countTable(preview),
    given.dryRun ? "nothing was moved" : `${count} ${done}`
  ])
})

const redrive = Command.make(
  "redrive",
  { ...options.common, ...filters, dryRun, all },
  (given) =>
    moved(given, DeadLetters.use((dead) => dead.redrive(filterOf(given))), "redriven").pipe(
      Effect.provide(Database.storesAsTheyAre(given.url)),
      told
    )
).pipe(
  Command.withDescription("Move dead letters back to the queue, with all their attempts again"),
  Command.withExamples([
    { command: "sluice dead redrive --call call-17", description: "Those of one call" },
    { command: "sluice dead redrive --reason exhausted --dry-run", description: "See what it would move" }
  ])
)

const discard = Command.make(
  "discard",
  {
    ...options.common,
    ...filters,
    dryRun,
    all,
    because: options.required("because", "the reason, which is stored")
  },
  (given) =>
    moved(given, DeadLetters.use((dead) => dead.discard(filterOf(given), given.because)), "discarded").pipe(
      Effect.provide(Database.storesAsTheyAre(given.url)),
      told
    )
).pipe(
  Command.withDescription("Discard dead letters for good; they stay on record"),
  Command.withExamples([
    { command: "sluice dead discard --call call-17 --because \"said twice\"", description: "Those of one call" }
  ])
)

/** The command. */
export const dead = Command.make("dead").pipe(
  Command.withDescription("List, show, redrive or discard dead letters"),
  Command.withExamples([
    { command: "sluice dead list", description: "List them" },
    { command: "sluice dead redrive --reason exhausted", description: "Try some of them again" }
  ]),
  Command.withSubcommands([list, show, redrive, discard])
)
