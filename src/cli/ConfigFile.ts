/**
 * Reads `sluice.config.{ts,mts,cts,js,mjs,cjs}` in the working directory. It holds settings by name; the environment
 * overrides it.
 *
 * ```ts
 * export default defineConfig({ DATABASE_URL: "postgres://…", SLUICE_BATCH_SIZE: 500 })
 * ```
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import { lstatSync, statSync } from "node:fs"
import path from "node:path"
import { escape } from "../internal/escape.ts"
import { nearest } from "../internal/nearest.ts"
import { isOfKubernetes } from "../internal/unknownVariables.ts"
import * as Redaction from "../Redaction.ts"
import * as Settings from "../Settings.ts"
import { mayHoldPassword } from "./address.ts"
import { Failed } from "./Failed.ts"
import * as loading from "./loading.ts"
import * as options from "./options.ts"
import { say } from "./Terminal.ts"

/** The names of the file, in order: the first one that exists is read. */
export const names = ["ts", "mts", "cts", "js", "mjs", "cjs"].map((ending) => `sluice.config.${ending}`)

/** Names of files that are not read: an error says so. */
const unread = ["json", "jsonc", "yaml", "yml", "toml"].map((ending) => `sluice.config.${ending}`)

const known = new Set<string>([...Settings.names, ...Object.values(options.names)])

/** The most wrong names that an error lists: a file may hold the whole environment. */
const mostUnknown = 5

/** The time limit for loading the file. */
const limit = Duration.seconds(10)

/** The type of a value that cannot be a setting, and what to write instead. Never the value: it may hold a password. */
const describeType = (value: unknown): string => {
  if (value === undefined || value === null) return `${String(value)}: leave it out, or write a value`
  if (typeof value === "bigint" || typeof value === "symbol") return `a ${typeof value}`
  if (typeof value === "function") return "a function: write its result"
  if (Predicate.isPromiseLike(value)) return "a promise: await it"
  if (value instanceof URL) return "a URL object: write it as a string"
  if (Duration.isDuration(value)) return "a Duration: write a string, as \"30 seconds\""
  if (Array.isArray(value)) return "a list"
  const { constructor } = Object(value)
  return typeof constructor === "function" && constructor !== Object ? `an object (${constructor.name})` : "an object"
}

const isPlainObject = (value: unknown): value is Readonly<Record<string, unknown>> => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  // a module namespace has no prototype
  return prototype === Object.prototype || prototype === null
}

const isText = (value: unknown): boolean => typeof value === "string" && value !== ""

const listProblem = (list: ReadonlyArray<unknown>): string | undefined =>
  list.length > 0 && Array.from(list).every(isText)
    ? undefined
    : "is a list that does not hold only strings: write folders or globs"

const expected = "write a string, a number, true or false"

/** Why a value cannot be a setting, or undefined if it can. */
const problemOf = (name: string, value: unknown): string | undefined => {
  if (name === options.names.handlers && Array.isArray(value)) return listProblem(value)
  if (typeof value === "string") return value === "" ? "is an empty string: leave it out, or write a value" : undefined
  if (typeof value === "number" && !Number.isFinite(value)) return `is ${value}: ${expected}`
  if (typeof value !== "number" && typeof value !== "boolean") {
    const type = describeType(value)
    return `is ${type}${type.includes(":") ? "" : `: ${options.isText(name) ? "write a string" : expected}`}`
  }
  return options.isText(name) ? `is a ${typeof value}: write a string` : undefined
}

/** The settings that a module exports, or an error that says what is wrong with them. */
const check = (file: string, settings: unknown) => {
  if (!isPlainObject(settings)) {
    const found = settings === undefined ? "nothing" : describeType(settings)
    return new Failed({ reason: `${file} must export default an object of settings; it exports ${found}` })
  }
  // the exporter reads many OTEL_… variables: they are not checked here
  const { redact, ...others } = settings
  if (redact !== undefined && typeof redact !== "function") {
    return new Failed({ reason: `${file}: redact is not a function: write (json) => json` })
  }
  const unknown = Reflect.ownKeys(others).map(String).filter((key) => !known.has(key) && !key.startsWith("OTEL_"))
  if (unknown.length > 0) {
    const wrong = unknown.slice(0, mostUnknown).map((name) => {
      const meant = nearest(name.replace(/^SLUICE_/, ""), [...known].map((one) => one.replace(/^SLUICE_/, "")))
      const suggestion = meant === undefined ? "" : ` (did you mean SLUICE_${meant}?)`
      return `${mayHoldPassword(name) ? "…" : escape(name)}${suggestion}`
    }).concat(unknown.length > mostUnknown ? [`and ${unknown.length - mostUnknown} others`] : []).join(", ")
    return new Failed({
      reason: `${file}: there is no setting ${wrong}; there are ${[...known].join(", ")} and OTEL_…`
    })
  }
  const problems = Object.entries(others).flatMap(([name, value]) => {
    const problem = problemOf(name, value)
    return problem === undefined ? [] : [`${name} ${problem}`]
  })
  return problems.length === 0
    ? Effect.succeed({ redact, others })
    : new Failed({ reason: `${file}: ${problems.join("; ")}` })
}

/** Also true for a broken link: its settings are intended, so reading it must fail. */
const isThere = (name: string): boolean => lstatSync(name, { throwIfNoEntry: false }) !== undefined

const read = Effect.gen(function*() {
  const [name, ...others] = [...names, ...unread].filter(isThere)
  if (name === undefined) return { redact: undefined, others: {} }
  if (!names.includes(name)) {
    return yield* new Failed({
      reason: `${name} is not read: write the settings in sluice.config.ts, as export default { … }`
    })
  }
  for (const other of others) yield* say(`${other} is not read: ${name} is`)
  const file = path.resolve(name)
  if (statSync(file, { throwIfNoEntry: false })?.isDirectory() === true) {
    return yield* new Failed({ reason: `${path.basename(file)} is a folder, not a file` })
  }
  const loaded = yield* loading.load(file, path.basename(file), limit)
  return yield* Effect.suspend(() => check(path.basename(file), loading.defaultOf(loaded))).pipe(
    // a getter or a proxy may throw
    Effect.catchDefect(() => new Failed({ reason: `${path.basename(file)}: its settings cannot be read: one throws` }))
  )
})

/** The environment without what Kubernetes put into it under the name of a setting. */
const environment = (): Record<string, string> =>
  Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value = ""]) => isOfKubernetes(name, value) ? [] : [[name, value]])
  )

/** The environment first, then the file. Read when a command runs: help and completions do not need it. */
export const layer = Layer.unwrap(Effect.map(read, ({ others, redact }) =>
  Layer.merge(
    ConfigProvider.layer(
      ConfigProvider.orElse(ConfigProvider.fromEnv({ env: environment() }), ConfigProvider.fromUnknown(others))
    ),
    // the compiler checks its type where the file is written with defineConfig
    redact === undefined ? Layer.empty : Redaction.layer(redact as Redaction.Redact)
  )))
