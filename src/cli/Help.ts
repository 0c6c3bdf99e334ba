/**
 * Prints help and usage errors. Help goes to stdout in 80 columns. A usage error is one sentence on stderr without the help,
 * which would push it out of sight, or into the file that stdout is redirected to.
 */
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { escape, word } from "../internal/escape.ts"
import { mayHoldPassword } from "./address.ts"
import { Failure } from "./Failed.ts"
import * as print from "./print.ts"
import { hasColors } from "./Terminal.ts"
import * as wantsJson from "./wantsJson.ts"

const columns = 80

/** Breaks a long line between words. The rest is indented below its description, or by 10 columns if the flag is long. */
const wrap = (line: string): string => {
  if (CliOutput.displayWidth(line) <= columns) return line
  const lead = /^ *(?:\S.*?\S {2,})?/.exec(line)?.[0] ?? ""
  const text = line.slice(lead.length)
  const width = CliOutput.displayWidth(lead)
  const indent = width > columns / 2 ? 10 : width
  const lines = print.fill(text, columns - indent).map((one) => " ".repeat(indent) + one)
  return indent === width ? lead + lines.join("\n").slice(indent) : [lead.trimEnd(), ...lines].join("\n")
}

/** Puts an empty line before the examples, like before every other section. */
const apart = (line: string, index: number, lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  /^\S*EXAMPLES/.test(line) && lines[index - 1] !== "" ? ["", line] : [line]

// only `sluice --help` lists the flags that every Effect command has
const by = (stream: NodeJS.WriteStream) =>
  CliOutput.defaultFormatter({ globalFlags: "summary", colors: hasColors(stream) })
const byDefault = by(process.stdout)
// errors are printed on stderr
const { formatErrors } = by(process.stderr)

/** Help shows a switch without its optional value, which is rarely given. */
const withoutValue = <F extends { readonly type: string }>(flag: F): F =>
  flag.type === "[=boolean]" ? { ...flag, type: "boolean" } : flag

const formatter: CliOutput.Formatter = {
  ...byDefault,
  formatHelpDoc: (doc) =>
    byDefault.formatHelpDoc({ ...doc, flags: doc.flags.map(withoutValue) }).split("\n").map(wrap).flatMap(apart).join(
      "\n"
    )
}

/** A typed text as an error may quote it. An address may hold a password, and is easily typed without its flag. */
const typed = (text: string): string => mayHoldPassword(text) ? "…" : escape(text)

/** For an unknown flag or subcommand: the known ones. For an argument that is probably a call's id: the flag for it. */
const rightOnes = ({ errors, helpDoc }: CliOutput.Presenter.InvalidInvocation): string => {
  const wrong = errors.map(({ _tag }) => _tag)
  const [extra] = errors.flatMap((error) => error._tag === "UnexpectedArgument" ? error.arguments : [])
  if (extra !== undefined && helpDoc.flags.some(({ name }) => name === "call")) {
    return `\n\n  Name a call by its flag: --call ${typed(word(extra))}`
  }
  const names = wrong.includes("UnknownSubcommand")
    ? (helpDoc.subcommands ?? []).flatMap(({ commands }) => commands.map(({ name }) => name))
    : wrong.includes("UnrecognizedOption")
    ? helpDoc.flags.map(({ name }) => `--${name}`)
    : []
  return names.length === 0 ? "" : `\n\n${wrap(`  There are: ${names.join(", ")}`)}`
}

const typedFields = new Set(["option", "value", "subcommand", "arguments"])

/** The same error, with a message that quotes no secret. */
const shown = <E extends CliError.NonShowHelpErrors>(error: E): E => {
  const fields = Object.entries(error).filter(([name]) => typedFields.has(name)).map(([name, value]) => [
    name,
    { value: typeof value === "string" ? typed(value) : Array.isArray(value) ? value.map(String).map(typed) : value }
  ])
  // the message is a getter that reads these fields
  return Object.create(error, Object.fromEntries(fields))
}

/** The formatter of help and the presenter of errors, for the whole command. */
export const layer = Layer.merge(
  CliOutput.layer(formatter),
  Layer.succeed(CliOutput.Presenter, {
    present: (event) =>
      event._tag === "InvalidInvocation"
        ? Console.error(
          `${formatErrors(event.errors.map(shown))}${rightOnes(event)}\n\n  See ${event.commandPath.join(" ")} --help`
        )
        : CliOutput.defaultPresenter.present(event)
  })
)

/** The sentence of an error. */
const sentenceOf = (error: unknown): string => {
  if (CliError.isCliError(error) && error._tag === "ShowHelp") {
    return error.errors.map((one) => shown(one).message).join("; ")
  }
  return error instanceof Error ? error.message : String(error)
}

/** Prints an error as JSON if JSON is wanted: programs read standard output, also after an error. */
export const asJson = (cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (Cause.hasInterrupts(cause)) return Effect.void
    const sentence = sentenceOf(Cause.squash(cause))
    return !wantsJson.isWanted() || sentence === "" ? Effect.void : print.json(Failure, { error: sentence })
  })
