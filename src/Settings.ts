/**
 * Everything that can be set, with its default. Read from `Config` (the environment, unless the application provides
 * another `ConfigProvider`) when a layer is built; a wrong one stops the start with an error that names it.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Record from "effect/Record"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { longestBeatInterval } from "./internal/liveness.ts"
import { quote } from "./internal/quote.ts"

/** What can be set. */
export interface Settings {
  /** `SLUICE_BATCH_SIZE`, 100: the most chunks one claim takes. */
  readonly batchSize: number
  /** `SLUICE_BATCH_BYTES`, 16 MiB: the most recorded JSON one claim takes; a single larger chunk is still taken. */
  readonly batchBytes: number
  /** `SLUICE_IN_FLIGHT`, 2: how many batches one worker has under way. */
  readonly inFlight: number
  /** `SLUICE_MAX_ATTEMPTS`, 10: failed attempts before a chunk is buried, where its handler does not say. */
  readonly maxAttempts: number
  /** `SLUICE_MAX_CRASHES`, 3: workers a chunk may take down alone before it is buried. */
  readonly maxCrashes: number
  /** `SLUICE_LEASE`, 1 minute: how long a worker may go without a sign before its chunks are another's. */
  readonly lease: Duration.Duration
  /** `SLUICE_HANDLER_TIMEOUT`, 30 seconds: how long one handler run may take, where the handler does not say. */
  readonly handlerTimeout: Duration.Duration
  /** `SLUICE_POLL_INTERVAL`, 5 seconds: how often an idle worker looks without having been woken. */
  readonly pollInterval: Duration.Duration
  /**
   * `SLUICE_BEAT_INTERVAL`, 10 seconds: how often a worker says it is alive and looks after parked chunks. Not longer,
   * because after 30 seconds without a beat it counts as gone; 0 is at every cycle, and not by itself.
   */
  readonly beatInterval: Duration.Duration
  /** `SLUICE_GRACE_PERIOD`, 30 seconds: how long running handlers may finish at shutdown. */
  readonly gracePeriod: Duration.Duration
  /**
   * `SLUICE_MAX_RESULT_BYTES`, 12 MiB: the most JSON one call may hold, its outputs, context, input, details and trace
   * together. Above 12 MiB every client must be told to take longer messages as well: `maxMessageSize` 4 MiB above it.
   */
  readonly maxResultBytes: number
  /**
   * `SLUICE_STATEMENT_TIMEOUT`, 30 seconds: how long a statement of Sluice's own may take; then it fails, and its connection
   * is given up. Statements of handlers are limited by the handler timeout.
   */
  readonly statementTimeout: Duration.Duration
  /** `SLUICE_MAX_OUTPUTS`, 10,000: the most outputs one call may have. */
  readonly maxOutputs: number
  /** `SLUICE_SCHEMA`, `sluice`: the Postgres schema of Sluice's tables. */
  readonly schema: string
  /** `SLUICE_DEAD_BLOCKS_KEY`, true: whether a dead chunk holds up the later ones of its ordering key. */
  readonly deadBlocksKey: boolean
  /** `SLUICE_NOTIFY`, true: whether this process gives hints to others by NOTIFY, which works through any pooler. */
  readonly notify: boolean
  /**
   * `SLUICE_LISTEN`, true: whether this process hears the hints of others by LISTEN, over one connection more. Who hears none
   * finds work by looking, every poll interval. Behind a pooler in transaction mode, where nothing can be heard, it is off by
   * itself unless `listenUrl` is set.
   */
  readonly listen: boolean
  /** `SLUICE_LISTEN_URL`, none: where to hear hints, when the client's address leads to a pooler: the server's own. */
  readonly listenUrl: Redacted.Redacted | undefined
  /**
   * `SLUICE_TRUSTED`, none: what others made of Sluice's tables, or put on them, and is meant: `role clinic_dba`,
   * `trigger persisted_chunk.audit`, with commas between. Anything else of the kind stops the start; its error says what to
   * write here.
   */
  readonly trusted: ReadonlyArray<string>
  /** `SLUICE_MIGRATION_WAIT`, 10 minutes: how long a migration waits for others' transactions before it gives up. */
  readonly migrationWait: Duration.Duration
}

/** A setting has a value it cannot have. */
export class SettingInvalid extends Schema.TaggedError<SettingInvalid>()("SettingInvalid", {
  /** The variable, e.g. `SLUICE_BATCH_SIZE`. */
  setting: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `${this.setting} is wrong: ${this.reason}`
  }
}

/** How a setting is read from a text, what else it must be, and a right one for the error that says so. */
interface Kind<A> {
  readonly parse: (text: string) => A | undefined
  readonly what: string
  readonly problem: (value: A) => string | undefined
  readonly example: string
}

const none = (): undefined => undefined

const number: Kind<number> = {
  parse: (text) => /^\S+$/.test(text) && Number.isInteger(Number(text)) ? Number(text) : undefined,
  what: "a whole number",
  problem: (value) => Number.isSafeInteger(value) && value > 0 ? undefined : `${value} is not a whole number above 0`,
  example: "100"
}

const units = { ms: "millis", s: "seconds", m: "minutes", min: "minutes", h: "hours", d: "days" } as const
const isUnit = (text: string): text is keyof typeof units => Object.hasOwn(units, text)

/** @internal `30 seconds`, as Effect writes a duration, or `30s`, as people do. */
export const parseDuration = (text: string): Duration.Duration | undefined => {
  const [, amount, unit = ""] = /^(\d+(?:\.\d+)?) ?([a-z]+)$/.exec(text) ?? []
  // what is no duration's text is no duration
  const input = isUnit(unit) ? `${Number(amount)} ${units[unit]}` as const : text as Duration.Input
  return Option.getOrUndefined(Duration.fromInput(input))
}

// between them what a database can add to a time
const shortest = Duration.millis(1)
const longest = Duration.days(365)

const span: Kind<Duration.Duration> = {
  parse: parseDuration,
  what: "a duration",
  problem: (value) =>
    Duration.between(value, { minimum: shortest, maximum: longest })
      ? undefined
      : `${Duration.format(value)} is not between 1 millisecond and 365 days`,
  example: "\"30 seconds\" or \"30s\""
}
const spanOrNone: Kind<Duration.Duration> = {
  ...span,
  problem: (value) => Duration.isZero(value) ? undefined : span.problem(value)
}

const beat: Kind<Duration.Duration> = {
  ...spanOrNone,
  problem: (value) =>
    spanOrNone.problem(value) ?? (Duration.isLessThanOrEqualTo(value, longestBeatInterval)
      ? undefined
      : `${Duration.format(value)} is longer than ${
        Duration.toSeconds(longestBeatInterval)
      } seconds: others would take the worker for gone`),
  example: "\"5 seconds\" or \"5s\""
}

const words = new Map([
  ...["true", "yes", "on", "1", "y"].map((word) => [word, true] as const),
  ...["false", "no", "off", "0", "n"].map((word) => [word, false] as const)
])
const choice: Kind<boolean> = {
  parse: (text) => words.get(text),
  what: "true or false",
  problem: none,
  example: "true"
}

const identifier: Kind<string> = {
  parse: (text) => text,
  what: "a name",
  problem: (value) =>
    !/^[a-z_][a-z0-9_]{0,47}$/.test(value)
      ? `${quote(value)} is not 1 to 48 of a-z 0-9 _, the first of them no digit`
      : /^pg_|^information_schema$/.test(value)
      ? `${quote(value)} is a name that Postgres keeps for itself`
      : undefined,
  example: "sluice"
}

const address: Kind<Redacted.Redacted | undefined> = {
  parse: (text) => Redacted.make(text, { label: "address" }),
  what: "an address",
  // it may hold a password: it is not repeated
  problem: (value) =>
    value === undefined || /^postgres(ql)?:\/\//.test(Redacted.value(value))
      ? undefined
      : "it is not the URL of a Postgres server",
  example: "postgres://user@host:5432/database"
}

const entries: Kind<ReadonlyArray<string>> = {
  parse: (text) => text.split(",").map((entry) => entry.trim()).filter((entry) => entry !== ""),
  what: "a list",
  problem: (list) => {
    const wrong = list.find((entry) => !/^(role|relation|trigger|rule|row security|inheritance) \S/.test(entry))
    return wrong === undefined
      ? undefined
      : `${quote(wrong)} does not begin with role, relation, trigger, rule, row security or inheritance, and a name`
  },
  example: "\"role clinic_dba, trigger persisted_chunk.audit\""
}

/** Each setting: of which kind, and what it is when nothing is said. */
const table: { readonly [Field in keyof Settings]: readonly [kind: Kind<Settings[Field]>, standard: Settings[Field]] } =
  {
    batchSize: [number, 100],
    batchBytes: [number, 16 * 1024 * 1024],
    inFlight: [number, 2],
    maxAttempts: [number, 10],
    maxCrashes: [number, 3],
    lease: [span, Duration.minutes(1)],
    handlerTimeout: [span, Duration.seconds(30)],
    pollInterval: [span, Duration.seconds(5)],
    beatInterval: [beat, Duration.seconds(10)],
    gracePeriod: [spanOrNone, Duration.seconds(30)],
    maxResultBytes: [number, 12 * 1024 * 1024],
    statementTimeout: [span, Duration.seconds(30)],
    maxOutputs: [number, 10_000],
    schema: [identifier, "sluice"],
    deadBlocksKey: [choice, true],
    notify: [choice, true],
    listen: [choice, true],
    listenUrl: [address, undefined],
    trusted: [entries, []],
    migrationWait: [span, Duration.minutes(10)]
  }

/** `batchSize` is `SLUICE_BATCH_SIZE`. */
const nameOf = (field: keyof Settings): string =>
  `SLUICE_${field.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`

/** The names of all settings in the environment. */
export const names: ReadonlyArray<string> = Record.keys(table).map(nameOf)

const invalid = (field: keyof Settings, reason: string) => {
  const [{ example }] = table[field]
  return new SettingInvalid({ setting: nameOf(field), reason: `${reason}; write for example ${example}` })
}

/** A setting from code, else from `Config`, else its default. */
const read = Effect.fnUntraced(function*<Field extends keyof Settings>(field: Field, overrides: Partial<Settings>) {
  const [kind, standard] = table[field]
  const check = (value: Settings[Field]) => {
    const reason = kind.problem(value)
    return reason === undefined ? Effect.succeed(value) : Effect.fail(invalid(field, reason))
  }
  const given = overrides[field]
  if (given !== undefined) return yield* check(given)
  const text = yield* Effect.mapError(
    // every provider gives texts: those that have numbers print them
    Config.option(Config.String(nameOf(field))),
    (error) => new SettingInvalid({ setting: nameOf(field), reason: error.message })
  )
  if (Option.isNone(text)) return standard
  const value = kind.parse(text.value)
  return yield* value === undefined
    ? Effect.fail(invalid(field, `${quote(text.value)} is not ${kind.what}`))
    : check(value)
})

/** What an application set in code; wins over `Config`. */
const Overrides = Context.Reference<Partial<Settings>>("effect-sluice/Settings/Overrides", { defaultValue: () => ({}) })

/** The settings in force: defaults, then `Config`, then {@link layer}. Fails with {@link SettingInvalid}. */
export const load: Effect.Effect<Settings, SettingInvalid> = Effect.gen(function*() {
  const overrides = yield* Overrides
  return {
    batchSize: yield* read("batchSize", overrides),
    batchBytes: yield* read("batchBytes", overrides),
    inFlight: yield* read("inFlight", overrides),
    maxAttempts: yield* read("maxAttempts", overrides),
    maxCrashes: yield* read("maxCrashes", overrides),
    lease: yield* read("lease", overrides),
    handlerTimeout: yield* read("handlerTimeout", overrides),
    pollInterval: yield* read("pollInterval", overrides),
    beatInterval: yield* read("beatInterval", overrides),
    gracePeriod: yield* read("gracePeriod", overrides),
    maxResultBytes: yield* read("maxResultBytes", overrides),
    statementTimeout: yield* read("statementTimeout", overrides),
    maxOutputs: yield* read("maxOutputs", overrides),
    schema: yield* read("schema", overrides),
    deadBlocksKey: yield* read("deadBlocksKey", overrides),
    notify: yield* read("notify", overrides),
    listen: yield* read("listen", overrides),
    listenUrl: yield* read("listenUrl", overrides),
    trusted: yield* read("trusted", overrides),
    migrationWait: yield* read("migrationWait", overrides)
  }
})

/**
 * Settings from code, for every Sluice layer they are provided to; they win over `Config`.
 *
 * ```ts
 * Drain.layer.pipe(Layer.provide(Settings.layer({ batchSize: 500 })))
 * ```
 */
export const layer = (settings: Partial<Settings>): Layer.Layer<never> => Layer.succeed(Overrides, settings)
