/**
 * The settings and their defaults, as one service that every layer of Sluice reads, so two layers cannot disagree.
 * Provide it once, below everything else.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Record from "effect/Record"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import { longestBeatInterval } from "./internal/liveness.ts"
import { isServer, parseChoice, parseDuration, parseWhole } from "./internal/parseSetting.ts"
import { quote } from "./internal/quote.ts"
import { unknownVariables } from "./internal/unknownVariables.ts"

/** All settings, each checked. Durations are `Duration`s; sizes are bytes. */
export interface Values {
  /** `SLUICE_BATCH_SIZE`, 100: the most chunks one claim takes. */
  readonly batchSize: number
  /** `SLUICE_BATCH_BYTES`, 16 MiB: the most recorded JSON one claim takes; a single larger chunk is still taken. */
  readonly batchBytes: number
  /** `SLUICE_IN_FLIGHT`, 2: how many batches one worker has under way. */
  readonly inFlight: number
  /** `SLUICE_MAX_ATTEMPTS`, 10: failed attempts before a chunk is buried, unless its handler sets its own. */
  readonly maxAttempts: number
  /** `SLUICE_MAX_CRASHES`, 3: how many workers may crash while they run a chunk alone, before it is buried. */
  readonly maxCrashes: number
  /** `SLUICE_LEASE`, 1 minute: how long a worker may go without a renewal before other workers may claim its chunks. */
  readonly lease: Duration.Duration
  /** `SLUICE_HANDLER_TIMEOUT`, 30 seconds: how long one handler run may take, unless the handler sets its own timeout. */
  readonly handlerTimeout: Duration.Duration
  /** `SLUICE_POLL_INTERVAL`, 5 seconds: how often an idle worker looks for work without a hint. */
  readonly pollInterval: Duration.Duration
  /**
   * `SLUICE_BEAT_INTERVAL`, 10 seconds: how often a worker sends a heartbeat and unparks chunks. 10 seconds is the
   * maximum, because after 30 seconds without a heartbeat a worker counts as gone. 0: a heartbeat at every cycle, and
   * none in between.
   */
  readonly beatInterval: Duration.Duration
  /** `SLUICE_GRACE_PERIOD`, 30 seconds: how long running handlers may take to finish at shutdown. */
  readonly gracePeriod: Duration.Duration
  /**
   * `SLUICE_MAX_RESULT_BYTES`, 12 MiB: the most JSON one call may hold, its outputs, context, input, details and trace
   * together. Every client must accept messages of 4 MiB more (`maxMessageSize`, 16 MiB by default): an answer that the
   * client of a worker cannot be given is a dead letter.
   */
  readonly maxResultBytes: number
  /**
   * `SLUICE_STATEMENT_TIMEOUT`, 30 seconds: how long a statement of Sluice itself may take before it fails and its
   * connection is closed. Statements of handlers are limited by the handler timeout.
   */
  readonly statementTimeout: Duration.Duration
  /** `SLUICE_MAX_OUTPUTS`, 10,000: the most outputs one call may have. */
  readonly maxOutputs: number
  /**
   * `SLUICE_GROUP_COMMIT`, true: whether calls that this process records concurrently, one by one and outside of
   * transactions, share statements and commits. One at a time is not affected.
   */
  readonly groupCommit: boolean
  /**
   * `SLUICE_DECLARED_INSIDE`, true: whether the database persists the answers of declared handlers by itself, so that they
   * do not travel to this process and back. The rows are the same if it is false.
   */
  readonly declaredInside: boolean
  /**
   * `SLUICE_RECORD_WITHIN`, 100 milliseconds: how long `Drain.recordNow` leaves an answer unrecorded while its handlers
   * run. A process that dies within this time loses the answer. 0: it is recorded before its handlers run.
   */
  readonly recordWithin: Duration.Duration
  /** `SLUICE_SCHEMA`, `sluice`: the Postgres schema of Sluice's tables. */
  readonly schema: string
  /** `SLUICE_DEAD_BLOCKS_KEY`, true: whether a dead chunk blocks the later ones of its ordering key. */
  readonly deadBlocksKey: boolean
  /**
   * `SLUICE_NOTIFY`, true: whether this process sends hints to other processes by NOTIFY, which works through any
   * pooler.
   */
  readonly notify: boolean
  /**
   * `SLUICE_LISTEN`, true: whether this process receives hints from other processes by LISTEN, over one extra
   * connection. Without hints a worker finds work by polling, every poll interval. Behind a pooler in transaction mode,
   * where LISTEN does not work, it is off automatically unless `listenUrl` is set.
   */
  readonly listen: boolean
  /** `SLUICE_LISTEN_URL`, none: the server's own address for LISTEN, when the client's address is a pooler's. */
  readonly listenUrl: Redacted.Redacted | undefined
  /**
   * `SLUICE_TRUSTED`, none: intended changes to Sluice's tables from outside Sluice: `role clinic_dba`,
   * `trigger persisted_chunk.audit`, separated by commas. A name with a comma is quoted: `role 'a, b'`. Any other such
   * change stops the start, with an error that says what to write here.
   */
  readonly trusted: ReadonlyArray<string>
  /**
   * `SLUICE_MIGRATION_WAIT`, 10 minutes: how long a migration waits for transactions of other sessions before it gives
   * up.
   */
  readonly migrationWait: Duration.Duration
}

/** Settings given in code: any of them, durations as Effect reads them (`"30 seconds"`, `Duration.seconds(30)`, 30_000). */
export type Options = {
  readonly [Field in keyof Values]?:
    | (Values[Field] extends Duration.Duration ? Duration.Input : Values[Field])
    | undefined
}

/**
 * The settings of an application. A value given to {@link layer} wins; otherwise it is read from `Config` (the
 * environment, unless the application provides another `ConfigProvider`); otherwise it has its default.
 */
export class Settings extends Context.Service<Settings, Values>()("effect-sluice/Settings") {}

/** A setting has an invalid value: a `ConfigError` that names the variable and gives a valid example. */
export class SettingInvalid extends Config.ConfigError {
  /** The variable, e.g. `SLUICE_BATCH_SIZE`. */
  readonly setting: string
  readonly reason: string

  constructor({ reason, setting }: { readonly setting: string; readonly reason: string }) {
    super(new Schema.SchemaError(new SchemaIssue.InvalidValue({ message: `${setting} is wrong: ${reason}` })))
    this.setting = setting
    this.reason = reason
  }

  override get message() {
    return `${this.setting} is wrong: ${this.reason}`
  }

  override toString() {
    return this.message
  }
}

/** How a setting is read from a string and from code, how it is validated, and an example for the error. */
interface Kind<A, Input = A> {
  readonly parse: (text: string) => A | undefined
  readonly accept: (input: Input) => A | undefined
  readonly what: string
  readonly problem: (value: A) => string | undefined
  readonly example: string
}

const none = (): undefined => undefined
const same = <A>(value: A): A => value

const number: Kind<number> = {
  parse: parseWhole,
  accept: same,
  what: "a whole number",
  problem: (value) => Number.isSafeInteger(value) && value > 0 ? undefined : `${value} is not a whole number above 0`,
  example: "100"
}

// the range of durations that a database can add to a time
const shortest = Duration.millis(1)
const longest = Duration.days(365)

const span: Kind<Duration.Duration, Duration.Input> = {
  parse: parseDuration,
  accept: (input) => Option.getOrUndefined(Duration.fromInput(input)),
  what: "a duration",
  problem: (value) =>
    Duration.between(value, { minimum: shortest, maximum: longest })
      ? undefined
      : `${Duration.format(value)} is not between 1 millisecond and 365 days`,
  example: "\"30 seconds\" or \"30s\""
}
const spanOrNone: Kind<Duration.Duration, Duration.Input> = {
  ...span,
  // none needs no unit
  parse: (text) => text === "0" ? Duration.zero : span.parse(text),
  problem: (value) => Duration.isZero(value) ? undefined : span.problem(value)
}

const beat: Kind<Duration.Duration, Duration.Input> = {
  ...spanOrNone,
  problem: (value) =>
    spanOrNone.problem(value) ?? (Duration.isLessThanOrEqualTo(value, longestBeatInterval)
      ? undefined
      : `${Duration.format(value)} is longer than ${
        Duration.toSeconds(longestBeatInterval)
      } seconds: other workers would count it as gone`),
  example: "\"5 seconds\" or \"5s\""
}

const choice: Kind<boolean> = {
  parse: parseChoice,
  accept: same,
  what: "true or false",
  problem: none,
  example: "true"
}

const identifier: Kind<string> = {
  parse: (text) => text,
  accept: same,
  what: "a name",
  problem: (value) =>
    !/^[a-z_][a-z0-9_]{0,47}$/.test(value)
      ? `${quote(value)} is not 1 to 48 characters of a-z 0-9 _, of which the first is not a digit`
      : /^pg_|^information_schema$/.test(value)
      ? `${quote(value)} is a name that Postgres reserves`
      : undefined,
  example: "sluice"
}

const address: Kind<Redacted.Redacted | undefined> = {
  parse: (text) => Redacted.make(text, { label: "address" }),
  accept: same,
  what: "an address",
  // it may hold a password, so the error does not repeat it
  problem: (value) =>
    value === undefined || isServer(Redacted.value(value)) ? undefined : "it is not the URL of a Postgres server",
  example: "postgres://user@host:5432/database"
}

const entries: Kind<ReadonlyArray<string>> = {
  // a name with a comma is quoted: role 'clinic, dba'
  parse: (text) =>
    (text.match(/(?:'[^']*'|[^,])+/g) ?? [])
      .map((entry) => entry.trim().replace(/'([^']*,[^']*)'$/, "$1"))
      .filter((entry) => entry !== ""),
  accept: same,
  what: "a list",
  problem: (list) => {
    const wrong = list.find((entry) => !/^(role|relation|trigger|rule|row security|inheritance) \S/.test(entry))
    return wrong === undefined
      ? undefined
      : `${quote(wrong)} does not begin with role, relation, trigger, rule, row security or inheritance, and a name`
  },
  example: "\"role clinic_dba, trigger persisted_chunk.audit\""
}

const kinds: {
  readonly [Field in keyof Values]: Kind<Values[Field], NonNullable<Options[Field]>>
} = {
  batchSize: number,
  batchBytes: number,
  inFlight: number,
  maxAttempts: number,
  maxCrashes: number,
  lease: span,
  handlerTimeout: span,
  pollInterval: span,
  beatInterval: beat,
  gracePeriod: spanOrNone,
  maxResultBytes: number,
  statementTimeout: span,
  maxOutputs: number,
  groupCommit: choice,
  declaredInside: choice,
  recordWithin: spanOrNone,
  schema: identifier,
  deadBlocksKey: choice,
  notify: choice,
  listen: choice,
  listenUrl: address,
  trusted: entries,
  migrationWait: span
}

/** The default of each setting. */
export const defaults: Values = {
  batchSize: 100,
  batchBytes: 16 * 1024 * 1024,
  inFlight: 2,
  maxAttempts: 10,
  maxCrashes: 3,
  lease: Duration.minutes(1),
  handlerTimeout: Duration.seconds(30),
  pollInterval: Duration.seconds(5),
  beatInterval: Duration.seconds(10),
  gracePeriod: Duration.seconds(30),
  maxResultBytes: 12 * 1024 * 1024,
  statementTimeout: Duration.seconds(30),
  maxOutputs: 10_000,
  groupCommit: true,
  declaredInside: true,
  recordWithin: Duration.millis(100),
  schema: "sluice",
  deadBlocksKey: true,
  notify: true,
  listen: true,
  listenUrl: undefined,
  trusted: [],
  migrationWait: Duration.minutes(10)
}

/** `batchSize` is `SLUICE_BATCH_SIZE`. */
const nameOf = (field: keyof Values): string =>
  `SLUICE_${field.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`

/** The names of all settings in the environment. */
export const names: ReadonlyArray<string> = Record.keys(kinds).map(nameOf)

const invalid = (field: keyof Values, reason: string) =>
  new SettingInvalid({ setting: nameOf(field), reason: `${reason}; write for example ${kinds[field].example}` })

const invalidIn = <Field extends keyof Values>(field: Field, value: Values[Field]): SettingInvalid | undefined => {
  const reason = kinds[field].problem(value)
  return reason === undefined ? undefined : invalid(field, reason)
}

const configOf = <Field extends keyof Values>(field: Field): Config.Config<Values[Field]> =>
  // every provider returns strings: those that have numbers print them
  Config.option(Config.String(nameOf(field))).pipe(Config.mapEffect((text) => {
    if (Option.isNone(text)) return Effect.succeed(defaults[field])
    // files and secrets that become variables often end with a line end
    const value = kinds[field].parse(text.value.trim())
    if (value === undefined) return Effect.fail(invalid(field, `${quote(text.value)} is not ${kinds[field].what}`))
    const error = invalidIn(field, value)
    return error === undefined ? Effect.succeed(value) : Effect.fail(error)
  }))

/** The settings as `Config` has them; missing ones are as in {@link defaults}. */
export const config: Config.Config<Values> = Config.all({
  batchSize: configOf("batchSize"),
  batchBytes: configOf("batchBytes"),
  inFlight: configOf("inFlight"),
  maxAttempts: configOf("maxAttempts"),
  maxCrashes: configOf("maxCrashes"),
  lease: configOf("lease"),
  handlerTimeout: configOf("handlerTimeout"),
  pollInterval: configOf("pollInterval"),
  beatInterval: configOf("beatInterval"),
  gracePeriod: configOf("gracePeriod"),
  maxResultBytes: configOf("maxResultBytes"),
  statementTimeout: configOf("statementTimeout"),
  maxOutputs: configOf("maxOutputs"),
  groupCommit: configOf("groupCommit"),
  declaredInside: configOf("declaredInside"),
  recordWithin: configOf("recordWithin"),
  schema: configOf("schema"),
  deadBlocksKey: configOf("deadBlocksKey"),
  notify: configOf("notify"),
  listen: configOf("listen"),
  listenUrl: configOf("listenUrl"),
  trusted: configOf("trusted"),
  migrationWait: configOf("migrationWait")
})

/** The values, overridden by the options given in code. */
const withOptions = (values: Values, options: Options): Result.Result<Values, SettingInvalid> => {
  const merged: { -readonly [Field in keyof Values]: Values[Field] } = { ...values }
  const put = <Field extends keyof Values>(field: Field): SettingInvalid | undefined => {
    const option = options[field]
    if (option === undefined) return undefined
    const value = kinds[field].accept(option)
    if (value === undefined) return invalid(field, `${quote(option)} is not ${kinds[field].what}`)
    merged[field] = value
    return invalidIn(field, value)
  }
  for (const field of Record.keys(kinds)) {
    const error = put(field)
    if (error !== undefined) return Result.fail(error)
  }
  return Result.succeed(merged)
}

/**
 * The variables named `SLUICE_…` that are no setting of the library or the command, each as a line of text, with the
 * setting that was probably meant.
 *
 * @internal
 */
export const unknown: Effect.Effect<ReadonlyArray<string>> = unknownVariables(names)

/**
 * The settings from `Config`, overridden by the options given in code. Fails with {@link SettingInvalid}. Logs a warning
 * for each variable `SLUICE_…` that is not a setting, for example a misspelt one.
 *
 * ```ts
 * Drain.layer.pipe(Layer.provide(Settings.layer({ batchSize: 500, lease: "30 seconds" })))
 * ```
 */
export const layer = (options: Options = {}): Layer.Layer<Settings, Config.ConfigError> =>
  Layer.effect(
    Settings,
    Effect.flatMap(config, (values) => Effect.fromResult(withOptions(values, options))).pipe(
      Effect.tap(() => Effect.flatMap(unknown, Effect.forEach((line) => Effect.logWarning(line))))
    )
  )
