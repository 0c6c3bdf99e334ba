/**
 * What can be said by a flag, in the environment or in `sluice.config.ts`, in this order. Settings can; what a command is
 * to act on cannot: nobody should redrive or pause by a variable that was left somewhere.
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { unescape } from "../internal/escape.ts"
import { Failed } from "./Failed.ts"

/** The names in the environment and the file, besides the library's own settings. */
export const names = {
  url: "DATABASE_URL",
  json: "SLUICE_JSON",
  handlers: "SLUICE_HANDLERS",
  namespace: "SLUICE_NAMESPACE",
  workers: "SLUICE_WORKERS",
  untilEmpty: "SLUICE_UNTIL_EMPTY",
  every: "SLUICE_EVERY",
  cron: "SLUICE_CRON",
  metricsPort: "SLUICE_METRICS_PORT",
  maxAge: "SLUICE_MAX_AGE"
} as const

/** A name in the environment, of a flag. */
export type Name = typeof names[keyof typeof names]

const read = <A>(name: Name, config: (name: string) => Config.Config<A>): Effect.Effect<Option.Option<A>, Failed> =>
  Config.option(config(name)).pipe(
    Effect.mapError((error) => new Failed({ reason: `${name} is wrong: ${error.message}` }))
  )

/** Where something was said: by the flag, or, if not, under its name in the environment or the file. */
export const sayOf = (flag: Option.Option<unknown>, name: Name): string =>
  Option.isSome(flag) ? `--${name.replace("SLUICE_", "").replaceAll("_", "-").toLowerCase()}` : name

/** What the flag says, else the environment, else the file. Empty is how a shell says nothing. */
export const textOf = (flag: Option.Option<string>, name: Name): Effect.Effect<Option.Option<string>, Failed> =>
  Option.isSome(flag)
    ? Effect.succeed(Option.filter(flag, (text) => text !== ""))
    : Effect.map(read(name, Config.String), Option.filter((text) => text !== ""))

/** The same of what is on or off. */
export const switchOf = (flag: Option.Option<boolean>, name: Name): Effect.Effect<boolean, Failed> =>
  Option.isSome(flag)
    ? Effect.succeed(flag.value)
    : Effect.map(read(name, Config.Boolean), Option.getOrElse(() => false))

/** The same of a whole number. */
export const numberOf = (
  flag: Option.Option<number>,
  name: Name,
  between: { readonly minimum: number; readonly maximum: number }
): Effect.Effect<Option.Option<number>, Failed> =>
  Effect.gen(function*() {
    const found = Option.isSome(flag) ? flag : yield* read(name, Config.Int)
    const { maximum, minimum } = between
    if (Option.isSome(found) && (found.value < minimum || found.value > maximum)) {
      return yield* new Failed({
        reason: `${sayOf(flag, name)}: ${found.value} is not between ${minimum} and ${maximum}`
      })
    }
    return found
  })

/** The flags of every command. */
export const common = {
  url: Flag.String("url").pipe(
    Flag.withMetavar("URL"),
    Flag.withDescription("the Postgres server's address; DATABASE_URL, or the embedded database in ./.sluice, without"),
    Flag.optional
  ),
  json: Flag.Boolean("json").pipe(Flag.withDescription("print JSON for programs (SLUICE_JSON)"), Flag.optional)
}

/** At most how many are listed. */
export const limit = (standard: number) =>
  Flag.Int("limit").pipe(
    Flag.withDescription(`at most so many; ${standard} without`),
    Flag.filter((count) => count > 0, (count) => `--limit: ${count} is not a whole number above 0`),
    Flag.withDefault(standard)
  )

/** A flag that is on or off, and nowhere else than on the command line. */
export const on = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withDefault(false))

/** A text that may be given. */
export const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

/** The name of something recorded, as it was typed or copied from the screen, where `\\uXXXX` is a character. */
export const recordedName = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.map(unescape), Flag.optional)

/** The same as an argument. */
export const recordedArgument = (name: string, description: string) =>
  Argument.String(name).pipe(Argument.withDescription(description), Argument.map(unescape))
