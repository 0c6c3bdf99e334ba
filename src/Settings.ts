/**
 * Everything that can be set, with its default. Read from `Config` (the environment, unless the application provides
 * another `ConfigProvider`) when a layer is built; a wrong one stops the start with an error that names it.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

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
  /** `SLUICE_MAX_RESULT_BYTES`, 16 MiB: the most JSON one call's outputs may hold. */
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

const Positive = Schema.Int.check(Schema.isGreaterThan(0))
const Identifier = Schema.String.check(Schema.isPattern(/^[a-z_][a-z0-9_]{0,47}$/))

const read = <A>(name: string, config: (name: string) => Config.Config<A>, fallback: A) =>
  Effect.mapError(
    config(name).pipe(Config.withDefault(fallback)),
    (error) => new SettingInvalid({ setting: name, reason: error.message })
  )
const count = (name: string, fallback: number) =>
  // environment variables are text, other providers give numbers: Config.Int reads both
  read(name, Config.Int, fallback).pipe(
    Effect.filterOrFail(
      Schema.is(Positive),
      (value) => new SettingInvalid({ setting: name, reason: `${value} is not a whole number above 0` })
    )
  )
const duration = (name: string, fallback: Duration.Input) =>
  read(name, Config.Duration, Duration.fromInputUnsafe(fallback)).pipe(
    Effect.filterOrFail(
      (value) => Duration.toMillis(value) > 0,
      () => new SettingInvalid({ setting: name, reason: "it must be longer than nothing" })
    )
  )

const fromConfig: Effect.Effect<Settings, SettingInvalid> = Effect.all({
  batchSize: count("SLUICE_BATCH_SIZE", 100),
  batchBytes: count("SLUICE_BATCH_BYTES", 16 * 1024 * 1024),
  inFlight: count("SLUICE_IN_FLIGHT", 2),
  maxAttempts: count("SLUICE_MAX_ATTEMPTS", 10),
  maxCrashes: count("SLUICE_MAX_CRASHES", 3),
  lease: duration("SLUICE_LEASE", "1 minute"),
  handlerTimeout: duration("SLUICE_HANDLER_TIMEOUT", "30 seconds"),
  pollInterval: duration("SLUICE_POLL_INTERVAL", "5 seconds"),
  beatInterval: duration("SLUICE_BEAT_INTERVAL", "5 seconds"),
  gracePeriod: duration("SLUICE_GRACE_PERIOD", "30 seconds"),
  maxResultBytes: count("SLUICE_MAX_RESULT_BYTES", 16 * 1024 * 1024),
  schema: read("SLUICE_SCHEMA", (name) => Config.schema(Identifier, name), "sluice"),
  deadBlocksKey: read("SLUICE_DEAD_BLOCKS_KEY", Config.Boolean, true),
  notify: read("SLUICE_NOTIFY", Config.Boolean, true)
})

/** What an application set in code; wins over `Config`. */
const Overrides = Context.Reference<Partial<Settings>>("effect-sluice/Settings/Overrides", { defaultValue: () => ({}) })

/** The settings in force: defaults, then `Config`, then {@link layer}. Fails with {@link SettingInvalid}. */
export const load: Effect.Effect<Settings, SettingInvalid> = Effect.gen(function*() {
  const overrides = yield* Overrides
  return { ...(yield* fromConfig), ...overrides }
})

/**
 * Settings from code, for every Sluice layer they are provided to; they win over `Config`.
 *
 * ```ts
 * Drain.layer.pipe(Layer.provide(Settings.layer({ batchSize: 500 })))
 * ```
 */
export const layer = (settings: Partial<Settings>): Layer.Layer<never> => Layer.succeed(Overrides, settings)
