/**
 * `sluice init`: sets up a folder: the tables, a settings file, an example handler and call, and a `.gitignore` that
 * excludes the embedded database.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import path from "node:path"
import * as HandlerDiscovery from "../../HandlerDiscovery.ts"
import { describe } from "../../internal/describe.ts"
import { fileProblem } from "../../internal/fileProblem.ts"
import * as Migrations from "../../store/Migrations.ts"
import * as ConfigFile from "../ConfigFile.ts"
import * as Database from "../Database.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"

/** What `sluice init --json` prints. */
export const Made = Schema.Struct({
  /** The files that were written, or written to. */
  files: Schema.Array(Schema.String),
  /** The migrations that were applied. */
  migrations: Schema.Array(Schema.String)
})

/** The folder of the package with the first handler, its call and the settings file. */
const first = () => new URL("../../../examples/first/", import.meta.url)

/** Works with a file; the error names it. */
const withFile = <A>(file: string, work: () => Promise<A>) =>
  Effect.tryPromise({
    try: work,
    catch: (cause) => new Failed({ reason: fileProblem(cause, file) ?? `${file}: ${describe(cause)}` })
  })

const copy = Effect.fnUntraced(function*(name: string, file: string) {
  yield* withFile(file, async () => {
    await fs.mkdir(path.dirname(file), { recursive: true })
    // written, not copied: an installed package may be read-only, and a copy would be, too. Never overwrites a file that
    // another process wrote meanwhile
    await fs.writeFile(file, await fs.readFile(new URL(name, first())), { flag: "wx" })
  })
  return file
})

/** The nearest `package.json`, by Node's rule. */
const packageJson = (folder: string): string | undefined => {
  const file = path.join(folder, "package.json")
  if (existsSync(file)) return file
  const above = path.dirname(folder)
  return above === folder ? undefined : packageJson(above)
}

/** The file ending of a module. Without `"type": "module"`, which `npm init` leaves out, Node loads `.ts` as CommonJS. */
const ending = Effect.gen(function*() {
  const file = packageJson(path.resolve("."))
  const text = file === undefined ? "" : yield* withFile(file, () => fs.readFile(file, "utf8"))
  return /"type"\s*:\s*"module"/.test(text) ? "ts" : "mts"
})

const ignored = ".sluice"

/** Adds the embedded database, which holds answers, to `.gitignore`, once. Returns the files that were written. */
const gitignore = withFile(".gitignore", async () => {
  const file = ".gitignore"
  const text = existsSync(file) ? await fs.readFile(file, "utf8") : ""
  if (text.split(/\r?\n/).some((line) => /^(\*\*)?\/?\.sluice(\/\**)?\s*$/.test(line))) return []
  const end = text.includes("\r\n") ? "\r\n" : "\n"
  await fs.appendFile(file, `${text === "" || text.endsWith("\n") ? "" : end}${ignored}${end}`)
  return [file]
})

/** Writes the files that are absent. With a handler already there, the example handler and call are not needed. */
const files = Effect.gen(function*() {
  const ts = yield* ending
  const made: Array<string> = yield* gitignore
  if (!ConfigFile.names.some((name) => existsSync(name))) {
    made.push(yield* copy("sluice.config.ts", `sluice.config.${ts}`))
  }
  if ((yield* HandlerDiscovery.find({})).length > 0) return made
  made.push(yield* copy("persist/patientReply.ts", `persist/patientReply.${ts}`))
  if (!existsSync("calls.jsonl")) made.push(yield* copy("calls.jsonl", "calls.jsonl"))
  return made
})

/** Whether the example is in the folder, from this run or an earlier one: its call fits no other handler. */
const hasExample = (): boolean =>
  existsSync("calls.jsonl") && ["ts", "mts"].some((ending) => existsSync(`persist/patientReply.${ending}`))

/** The commands that show that it works: a test runs them as they are printed. */
const nextSteps = (isExample: boolean, isAddressed: boolean): ReadonlyArray<string> => [
  isAddressed ? "next, each with the same --url:" : "next:",
  ...isExample
    ? ["  npx sluice record calls.jsonl", "  npx sluice drain --until-empty", "  npx sluice show call-1"]
    : ["  npx sluice handlers", "  npx sluice doctor"]
]

/** The command. */
export const init = Command.make(
  "init",
  { ...options.common, embedded: options.embedded },
  (given) =>
    Effect.gen(function*() {
      const { embedded, url } = given
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      // first: where there is no database, no half of a working place is left
      const applied = yield* Effect.provide(Migrations.run, Database.layer(url, { create: true, embedded }))
      const made = yield* files
      const migrations = applied.map(([id, name]) => `${String(id).padStart(4, "0")} ${name}`)
      if (json) return yield* print.json(Made, { files: made, migrations })
      yield* print.lines([
        ...made.map((file) => `wrote ${file}`),
        migrations.length === 0 ? "the tables were there" : "made the tables",
        ...nextSteps(hasExample(), Option.isSome(url))
      ])
    }).pipe(told)
).pipe(
  Command.withDescription(
    "Set up this folder: the tables, sluice.config.ts, and, if there is no handler, an example handler and call"
  ),
  Command.withShortDescription("Set up this folder: tables, settings, an example handler"),
  Command.withExamples([{ command: "sluice init", description: "On an embedded database, in ./.sluice" }])
)
