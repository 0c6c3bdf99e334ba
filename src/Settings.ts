/**
 * Everything that can be set, with its default. Read from `Config` (the environment, unless the application provides
 * another `ConfigProvider`) when a layer is built; a wrong one stops the start with an error that names it.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Record from "effect/Record"
import * as Schema from "effect/Schema"
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
  /** `SLUICE_BEAT_INTERVAL`, 5 seconds: how often a worker says it is alive and looks after parked chunks. */
  readonly beatInterval: Duration.Duration
  /** `SLUICE_GRACE_PERIOD`, 30 seconds: how long running handlers may finish at shutdown. */
  readonly gracePeriod: Duration.Duration
  /**
   * `SLUICE_MAX_RESULT_BYTES`, 12 MiB: the most JSON one call's outputs, context and input may hold together. Above 15 MiB
   * the client must be told to take longer messages as well (`maxMessageSize`).
   */
  readonly maxResultBytes: number
  /** `SLUICE_SCHEMA`, `sluice`: the Postgres schema of Sluice's tables. */
  readonly schema: string
  /** `SLUICE_DEAD_BLOCKS_KEY`, true: whether a dead chunk holds up the later ones of its ordering key. */
  readonly deadBlocksKey: boolean
  /**
   * `SLUICE_NOTIFY`, true: whether processes wake each other by Postgres's NOTIFY, over one connection more for each.
   * Set it to false behind a transaction-mode pooler, where nothing can be heard; then they find work by looking.
   */
  readonly notify: boolean
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

/** Between them what a database can add to a time. */
const shortest = Duration.millis(1)
const longest = Duration.days(365)

const count = (value: number): string | undefined =>
  Number.isSafeInteger(value) && value > 0 ? undefined : `${value} is not a whole number above 0`
const span = (value: Duration.Duration): string | undefined =>
  Duration.between(value, { minimum: shortest, maximum: longest })
    ? undefined
    : `${Duration.format(value)} is not between 1 millisecond and 365 days`
const spanOrNone = (value: Duration.Duration): string | undefined => Duration.isZero(value) ? undefined : span(value)
const identifier = (value: string): string | undefined =>
  !/^[a-z_][a-z0-9_]{0,47}$/.test(value)
    ? `${quote(value)} is not 1 to 48 of a-z 0-9 _, the first of them no digit`
    : /^pg_|^information_schema$/.test(value)
    ? `${quote(value)} is a name that Postgres keeps for itself`
    : undefined

/** Of each setting what is wrong with a value, whether it came from `Config` or from code. */
const problems: { readonly [Field in keyof Settings]: (value: Settings[Field]) => string | undefined } = {
  batchSize: count,
  batchBytes: count,
  inFlight: count,
  maxAttempts: count,
  maxCrashes: count,
  lease: span,
  handlerTimeout: span,
  pollInterval: span,
  beatInterval: spanOrNone,
  gracePeriod: spanOrNone,
  maxResultBytes: count,
  schema: identifier,
  deadBlocksKey: () => undefined,
  notify: () => undefined
}

/** `batchSize` is `SLUICE_BATCH_SIZE`. */
const nameOf = (field: keyof Settings): string =>
  `SLUICE_${field.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`

const read = <Field extends keyof Settings>(
  field: Field,
  config: (name: string) => Config.Config<Settings[Field]>,
  fallback: Settings[Field]
) => {
  const name = nameOf(field)
  return Effect.mapError(
    config(name).pipe(Config.withDefault(fallback)),
    (error) => new SettingInvalid({ setting: name, reason: error.message })
  )
}

const fromConfig: Effect.Effect<Settings, SettingInvalid> = Effect.all({
  // environment variables are text, other providers give numbers: Config.Int reads both
  batchSize: read("batchSize", Config.Int, 100),
  batchBytes: read("batchBytes", Config.Int, 16 * 1024 * 1024),
  inFlight: read("inFlight", Config.Int, 2),
  maxAttempts: read("maxAttempts", Config.Int, 10),
  maxCrashes: read("maxCrashes", Config.Int, 3),
  lease: read("lease", Config.Duration, Duration.minutes(1)),
  handlerTimeout: read("handlerTimeout", Config.Duration, Duration.seconds(30)),
  pollInterval: read("pollInterval", Config.Duration, Duration.seconds(5)),
  beatInterval: read("beatInterval", Config.Duration, Duration.seconds(5)),
  gracePeriod: read("gracePeriod", Config.Duration, Duration.seconds(30)),
  maxResultBytes: read("maxResultBytes", Config.Int, 12 * 1024 * 1024),
  schema: read("schema", Config.String, "sluice"),
  deadBlocksKey: read("deadBlocksKey", Config.Boolean, true),
  notify: read("notify", Config.Boolean, true)
})

const check = <Field extends keyof Settings>(field: Field, settings: Settings) => {
  const reason = problems[field](settings[field])
  return reason === undefined ? Effect.void : Effect.fail(new SettingInvalid({ setting: nameOf(field), reason }))
}

/** What an application set in code; wins over `Config`. */
const Overrides = Context.Reference<Partial<Settings>>("effect-sluice/Settings/Overrides", { defaultValue: () => ({}) })

/** The settings in force: defaults, then `Config`, then {@link layer}. Fails with {@link SettingInvalid}. */
export const load: Effect.Effect<Settings, SettingInvalid> = Effect.gen(function*() {
  const settings: Settings = { ...(yield* fromConfig), ...(yield* Overrides) }
  for (const field of Record.keys(problems)) yield* check(field, settings)
  return settings
})

/**
 * Settings from code, for every Sluice layer they are provided to; they win over `Config`.
 *
 * ```ts
 * Drain.layer.pipe(Layer.provide(Settings.layer({ batchSize: 500 })))
 * ```
 */
export const layer = (settings: Partial<Settings>): Layer.Layer<never> => Layer.succeed(Overrides, settings)
