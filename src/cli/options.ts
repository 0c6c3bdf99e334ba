/**
 * Reads options from a flag, the environment or `sluice.config.ts`, in this order. Only settings have all three sources.
 * What a command acts on comes from the command line only: a forgotten variable must not redrive or pause anything.
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { CommandSettings } from "../config.ts"
import { unescape } from "../internal/escape.ts"
import { textProblem } from "../internal/jsonProblem.ts"
import { parseChoice, parseWhole } from "../internal/parseSetting.ts"
import { quote } from "../internal/quote.ts"
import { commandVariables } from "../internal/unknownVariables.ts"
import { Failed } from "./Failed.ts"
import * as wantsJson from "./wantsJson.ts"

/** The command's names in the environment and the file, besides the library's own settings. */
export const names = { url: "DATABASE_URL", ...commandVariables } as const satisfies Readonly<
  Record<string, keyof CommandSettings>
>

const numbersAndSwitches = new Set<string>([names.json, names.workers, names.untilEmpty, names.metricsPort])

/** Whether a name's value must be a text: a number or a boolean in the file is a mistake. */
export const isText = (name: string): boolean =>
  !numbersAndSwitches.has(name) && Object.values<string>(names).includes(name)

/** The name of a flag in the environment. */
export type Name = typeof names[keyof typeof names]

const read = (name: Name): Effect.Effect<Option.Option<string>, Failed> =>
  Config.option(Config.String(name)).pipe(
    Effect.mapError((error) => new Failed({ reason: `${name} is wrong: ${error.message}` }))
  )

/** Like {@link read}, parsed. The error says what the text is not. */
const readAs = <A>(name: Name, parse: (text: string) => A | undefined, what: string) =>
  Effect.flatMap(read(name), (found): Effect.Effect<Option.Option<A>, Failed> => {
    const value = Option.isSome(found) ? parse(found.value.trim()) : undefined
    return Option.isSome(found) && value === undefined
      ? new Failed({ reason: `${name} is wrong: ${quote(found.value)} is not ${what}` })
      : Effect.succeed(Option.fromUndefinedOr(value))
  })

/** Names the source of a value for an error: the flag if it was given, or else the name in the environment or the file. */
export const sayOf = (flag: Option.Option<unknown>, name: Name): string =>
  Option.isSome(flag) ? `--${name.replace(/^SLUICE_|^DATABASE_/, "").replaceAll("_", "-").toLowerCase()}` : name

/**
 * The value of the flag, or else of the environment, or else of the file. An empty variable counts as not set. An empty flag
 * is an error: a script probably passed its own unset variable, and the intended value is unknown.
 */
export const textOf = (flag: Option.Option<string>, name: Name): Effect.Effect<Option.Option<string>, Failed> => {
  if (Option.isNone(flag)) return read(name)
  return flag.value === ""
    ? new Failed({ reason: `${sayOf(flag, name)} is empty: leave it out, or give a value` })
    : Effect.succeed(flag)
}

/** Like {@link textOf}, for several texts: a repeated flag, or a list in the file. */
export const textsOf = Effect.fnUntraced(function*(flags: ReadonlyArray<string>, name: Name) {
  if (flags.length > 0) {
    return yield* Effect.forEach(
      flags,
      (flag) => Effect.map(textOf(Option.some(flag), name), Option.getOrElse(() => ""))
    )
  }
  const provider = yield* ConfigProvider.ConfigProvider
  const found = yield* Effect.orDie(provider.load([name]))
  if (found?._tag !== "Array") return Option.toArray(yield* textOf(Option.none(), name))
  const nodes = yield* Effect.forEach(
    Array.from({ length: found.length }).keys(),
    (at) => Effect.orDie(provider.load([name, at]))
  )
  return nodes.flatMap((node) => node?.value === undefined ? [] : [node.value])
})

/** Like {@link textOf}, for a switch. */
export const switchOf = (flag: Option.Option<boolean>, name: Name): Effect.Effect<boolean, Failed> =>
  Option.isSome(flag)
    ? remembered(name, flag.value)
    : Effect.flatMap(
      readAs(name, parseChoice, "true or false"),
      (found) => remembered(name, Option.getOrElse(found, () => false))
    )

/** Remembers whether JSON is wanted: error handling outside the command reads it as well. */
const remembered = (name: Name, value: boolean): Effect.Effect<boolean> =>
  Effect.sync(() => {
    if (name === names.json) wantsJson.settle(value)
    return value
  })

/** Like {@link textOf}, for a whole number in a range. */
export const numberOf = (
  flag: Option.Option<number>,
  name: Name,
  between: { readonly minimum: number; readonly maximum: number }
): Effect.Effect<Option.Option<number>, Failed> =>
  Effect.gen(function*() {
    const found = Option.isSome(flag) ? flag : yield* readAs(name, parseWhole, "a whole number")
    const { maximum, minimum } = between
    if (Option.isSome(found) && (found.value < minimum || found.value > maximum)) {
      return yield* new Failed({
        reason: `${sayOf(flag, name)}: ${found.value} is not between ${minimum} and ${maximum}`
      })
    }
    return found
  })

/**
 * A switch. It takes a value only with `=`, like `--json=false`. A word after it is an argument of its own, even `1` or
 * `yes`, which may be names.
 */
const aSwitch = (name: string) => Flag.Boolean(name).pipe(Flag.withOptionalValue("true"))

/** A switch that may also be set in the environment or the settings file. None if it is not on the command line. */
export const maybe = (name: string, description: string) =>
  aSwitch(name).pipe(Flag.withDescription(description), Flag.optional)

/** The flags of every command. */
export const common = {
  url: Flag.String("url").pipe(
    Flag.withMetavar("URL"),
    Flag.withDescription(
      "the Postgres server's address; default: DATABASE_URL, or else the embedded database in ./.sluice"
    ),
    Flag.optional
  ),
  json: maybe("json", "print JSON for programs (SLUICE_JSON)")
}

/** For commands that may make a database: which otherwise is a mistake in the folder or the environment. */
export const embedded = aSwitch("embedded").pipe(
  Flag.withDescription("use the embedded database in ./.sluice, and create it if absent"),
  Flag.withDefault(false)
)

/** At most how many are listed. */
export const limit = (standard: number) =>
  Flag.Int("limit").pipe(
    Flag.withDescription(`the most rows to list; default ${standard}`),
    Flag.filter((count) => count > 0, (count) => `--limit: ${count} is not a whole number above 0`),
    Flag.withDefault(standard)
  )

/** A switch that only the command line can set. */
export const on = (name: string, description: string) =>
  aSwitch(name).pipe(Flag.withDescription(description), Flag.withDefault(false))

/**
 * A text that only the command line can set. An empty one is an error: a script probably passed its own unset variable, and
 * an empty filter may match everything.
 */
export const required = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withDescription(description),
    Flag.filter((text) => text !== "", () => "a value that is not empty")
  )

/** Like {@link required}, and optional. */
export const text = (name: string, description: string) => Flag.optional(required(name, description))

const canBeRecorded = (name: string): boolean => textProblem(name) === undefined
const notRecorded = (name: string): string => `a name that can be recorded: this one ${textProblem(name)}`

/** A flag for a recorded name, typed or copied from printed output, in which `\\uXXXX` stands for a character. */
export const recordedName = (name: string, description: string) =>
  required(name, description).pipe(Flag.map(unescape), Flag.filter(canBeRecorded, notRecorded), Flag.optional)

/** Like {@link recordedName}, as an argument. */
export const recordedArgument = (name: string, description: string) =>
  Argument.String(name).pipe(
    Argument.withDescription(description),
    Argument.map(unescape),
    Argument.filter(canBeRecorded, notRecorded)
  )
