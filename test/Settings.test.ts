/**
 * Everything that can be set: its default, how it is written, and that a wrong one stops the start and names itself.
 */
import { it } from "@effect/vitest"
import { CallRecorder, DomainEvents, Drain, HandlerRegistry, Settings } from "effect-sluice"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { inspect } from "node:util"
import { describe, expect } from "vitest"

const environment = (env: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromEnv({ env }))
const loaded = (env: Record<string, string>, options: Settings.Options = {}) =>
  Effect.provide(Settings.Settings, Layer.fresh(Settings.layer(options)).pipe(Layer.provide(environment(env))))

/** Of each variable: its field, its default, a right value and what it is read as, and wrong ones. */
const variables: ReadonlyArray<
  readonly [
    name: string,
    field: keyof Settings.Values,
    standard: unknown,
    right: string,
    read: unknown,
    wrong: ReadonlyArray<string>
  ]
> = [
  ...([
    ["SLUICE_BATCH_SIZE", "batchSize", 100],
    ["SLUICE_BATCH_BYTES", "batchBytes", 16 * 1024 * 1024],
    ["SLUICE_IN_FLIGHT", "inFlight", 2],
    ["SLUICE_MAX_ATTEMPTS", "maxAttempts", 10],
    ["SLUICE_MAX_CRASHES", "maxCrashes", 3],
    ["SLUICE_MAX_RESULT_BYTES", "maxResultBytes", 12 * 1024 * 1024],
    ["SLUICE_MAX_OUTPUTS", "maxOutputs", 10_000]
  ] as const).map(([name, field, standard]) =>
    [name, field, standard, "7", 7, ["0", "-1", "1.5", "many", "NaN", "Infinity", "1e999"]] as const
  ),
  ...([
    ["SLUICE_LEASE", "lease", Duration.minutes(1), ["0 seconds"]],
    ["SLUICE_HANDLER_TIMEOUT", "handlerTimeout", Duration.seconds(30), ["0 seconds"]],
    ["SLUICE_POLL_INTERVAL", "pollInterval", Duration.seconds(5), ["0 seconds"]],
    ["SLUICE_STATEMENT_TIMEOUT", "statementTimeout", Duration.seconds(30), ["0 seconds"]],
    ["SLUICE_RECORD_WITHIN", "recordWithin", Duration.millis(100), []],
    // to wait for nobody is sensible
    ["SLUICE_GRACE_PERIOD", "gracePeriod", Duration.seconds(30), []]
  ] as const).map(([name, field, standard, none]) =>
    [name, field, standard, "5 minutes", Duration.minutes(5), [
      ...none,
      "soon",
      "60",
      "5 S",
      "5x",
      "s",
      "1e3s",
      "5s 3s",
      "-1 seconds",
      "5 fortnights",
      "Infinity",
      "1 nanos",
      "1000 weeks"
    ]] as const
  ),
  // to beat at every cycle is sensible; seldom is not: the others would take the worker for gone
  ["SLUICE_BEAT_INTERVAL", "beatInterval", Duration.seconds(10), "0 seconds", Duration.zero, [
    "11 seconds",
    "-1 seconds",
    "1 nanos",
    "soon"
  ]],
  ["SLUICE_SCHEMA", "schema", "sluice", "sluice_two", "sluice_two", [
    "not a name",
    "Sluice",
    "a\"b",
    "1st",
    "x".repeat(49),
    "pg_sluice",
    "pg_catalog",
    "information_schema"
  ]],
  ["SLUICE_DEAD_BLOCKS_KEY", "deadBlocksKey", true, "false", false, ["perhaps"]],
  ["SLUICE_GROUP_COMMIT", "groupCommit", true, "off", false, ["2", "maybe"]],
  ["SLUICE_DECLARED_INSIDE", "declaredInside", true, "off", false, ["2", "maybe"]],
  ["SLUICE_NOTIFY", "notify", true, "false", false, ["2", "maybe"]],
  ["SLUICE_LISTEN", "listen", true, "false", false, ["2", "maybe"]],
  ["SLUICE_LISTEN_URL", "listenUrl", undefined, "postgres://ward@direct:5432/clinic", expect.anything(), [
    "direct:5432",
    "https://direct:5432/clinic",
    "postgres://ward@direct:99999/clinic",
    "postgres://ward:50%@direct/clinic"
  ]],
  [
    "SLUICE_TRUSTED",
    "trusted",
    [],
    "role clinic_dba,  trigger persisted_chunk.audit, role 'clinic, dba',",
    ["role clinic_dba", "trigger persisted_chunk.audit", "role clinic, dba"],
    ["clinic_dba", "role clinic_dba, audit"]
  ],
  ["SLUICE_MIGRATION_WAIT", "migrationWait", Duration.minutes(10), "30s", Duration.seconds(30), ["0s", "soon"]]
]

describe("settings", () => {
  it.effect("have a default each, and there are no others", () =>
    Effect.gen(function*() {
      const settings = yield* loaded({})
      expect(settings).toEqual(Object.fromEntries(variables.map(([, field, standard]) => [field, standard])))
    }))

  it.effect("that may be zero are written without a unit then, as the documentation does", () =>
    Effect.gen(function*() {
      const read = yield* loaded({ SLUICE_BEAT_INTERVAL: "0", SLUICE_RECORD_WITHIN: "0", SLUICE_GRACE_PERIOD: "0" })
      const { beatInterval, gracePeriod, recordWithin } = read
      expect([beatInterval, gracePeriod, recordWithin].map(Duration.isZero)).toEqual([true, true, true])
    }))

  it.effect("are read without the blanks and line ends around them, which files and secrets leave", () =>
    Effect.gen(function*() {
      for (const [name, field, , right, read] of variables) {
        expect((yield* loaded({ [name]: `  ${right}\r\n` }))[field]).toEqual(read)
      }
    }))

  for (const [name, field, , right, read, wrong] of variables) {
    it.effect(`${name} is read, and named when it is wrong`, () =>
      Effect.gen(function*() {
        expect((yield* loaded({ [name]: right }))[field]).toEqual(read)
        for (const value of wrong) {
          const error = yield* Effect.flip(loaded({ [name]: value }))
          expect([value, error]).toEqual([value, expect.any(Settings.SettingInvalid)])
          expect(error).toMatchObject({ _tag: "ConfigError", setting: name })
          expect(error.message).toContain(`${name} is wrong: `)
          // it says what would be right, and that is right
          const [, example = ""] = /; write for example "?([^"]+)/.exec(error.message) ?? []
          expect((yield* loaded({ [name]: example }))[field]).toEqual(expect.anything())
          // and it stops whatever needs it
          const layer = CallRecorder.layer.pipe(
            Layer.provide(MemoryStore.layer),
            Layer.provide(Settings.layer()),
            Layer.provide(environment({ [name]: value }))
          )
          expect(yield* Effect.flip(Effect.scoped(Layer.build(layer)))).toEqual(error)
        }
      }))
  }

  it.effect("an address to listen on is printed nowhere, for it may hold a password", () =>
    Effect.gen(function*() {
      const wrong = yield* Effect.flip(loaded({ SLUICE_LISTEN_URL: "mysql://ward:secret@direct/clinic" }))
      expect(wrong.message).not.toContain("secret")
      const right = yield* loaded({ SLUICE_LISTEN_URL: "postgres://ward:secret@direct/clinic" })
      expect(JSON.stringify(right) + inspect(right)).not.toContain("secret")
    }))

  it.effect("durations may be written as Effect writes them, or as people do", () =>
    Effect.gen(function*() {
      for (
        const [text, duration] of [
          ["90 seconds", "90 seconds"],
          ["1 minute", "1 minute"],
          ["90s", "90 seconds"],
          ["90 s", "90 seconds"],
          ["1500ms", "1500 millis"],
          ["1.5s", "1500 millis"],
          ["2m", "2 minutes"],
          ["2min", "2 minutes"],
          ["2h", "2 hours"],
          ["2d", "2 days"]
        ] as const
      ) {
        const { lease } = yield* loaded({ SLUICE_LEASE: text })
        expect([text, Duration.toMillis(lease)]).toEqual([text, Duration.toMillis(duration)])
      }
      const { message } = yield* Effect.flip(loaded({ SLUICE_LEASE: "60" }))
      expect(message).toBe(
        `SLUICE_LEASE is wrong: "60" is not a duration; write for example "30 seconds" or "30s"`
      )
    }))

  it.effect("may come from any provider", () =>
    Effect.gen(function*() {
      const provider = ConfigProvider.layer(ConfigProvider.fromUnknown({ SLUICE_BATCH_SIZE: 7, SLUICE_NOTIFY: false }))
      const settings = Effect.provide(Settings.Settings, Layer.provide(Settings.layer(), provider))
      expect(yield* settings).toMatchObject({ batchSize: 7, notify: false })
    }))

  it.effect("from code win over the environment, one by one", () =>
    Effect.gen(function*() {
      const settings = yield* loaded({ SLUICE_BATCH_SIZE: "7", SLUICE_IN_FLIGHT: "8" }, { batchSize: 500 })
      expect(settings).toMatchObject({ batchSize: 500, inFlight: 8, maxAttempts: 10 })
    }))

  it.effect("from code may have durations as Effect reads them", () =>
    Effect.gen(function*() {
      const { lease, pollInterval } = yield* loaded({}, { lease: "2 minutes", pollInterval: 1500 })
      expect([lease, pollInterval].map(Duration.toMillis)).toEqual([120_000, 1500])
    }))

  it.effect("from code are checked as well", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [string, Settings.Options]> = [
        ["SLUICE_BATCH_SIZE", { batchSize: 0 }],
        ["SLUICE_IN_FLIGHT", { inFlight: 1.5 }],
        ["SLUICE_MAX_ATTEMPTS", { maxAttempts: Number.NaN }],
        ["SLUICE_LEASE", { lease: Duration.zero }],
        ["SLUICE_LEASE", { lease: Duration.infinity }],
        ["SLUICE_LEASE", { lease: "5 fortnights" as Duration.Input }],
        ["SLUICE_SCHEMA", { schema: "a\"; drop schema public; --" }]
      ]
      for (const [setting, settings] of wrong) {
        const drain = Drain.layer.pipe(
          Layer.provide([HandlerRegistry.layer(), DomainEvents.layer, MemoryStore.layer]),
          Layer.provide(Settings.layer(settings))
        )
        expect(yield* Effect.flip(Effect.scoped(Layer.build(drain)))).toMatchObject({ _tag: "ConfigError", setting })
      }
    }))

  describe("with an unknown name", () => {
    /** What is logged while the settings are loaded. */
    const logged = (provider: Layer.Layer<never>) =>
      Effect.gen(function*() {
        const lines: Array<string> = []
        const logger = Logger.layer([Logger.make(({ logLevel, message }) => {
          lines.push(`${logLevel}: ${[message].flat().join(" ")}`)
        })])
        yield* Effect.scoped(Layer.build(Layer.fresh(Settings.layer()).pipe(Layer.provide([provider, logger]))))
        return lines
      })

    it.effect("are logged once, with the setting that was probably meant", () =>
      Effect.gen(function*() {
        expect(
          yield* logged(
            environment({ SLUICE_BATCHSIZE: "7", SLUICE_LAESE: "30s", SLUICE_BATCH_SIZE_: "7", PATH: "/bin" })
          )
        ).toEqual([
          "Warn: SLUICE_BATCHSIZE is not a setting and has no effect; did you mean SLUICE_BATCH_SIZE?",
          "Warn: SLUICE_BATCH_SIZE_ is not a setting and has no effect; did you mean SLUICE_BATCH_SIZE?",
          "Warn: SLUICE_LAESE is not a setting and has no effect; did you mean SLUICE_LEASE?"
        ])
      }))

    it.effect("are logged in one line when no setting is close, without their values", () =>
      Effect.gen(function*() {
        const lines = yield* logged(environment({ SLUICE_COFFEE: "secret", SLUICE_TEA: "secret" }))
        expect(lines).toEqual(["Warn: not settings, and without effect: SLUICE_COFFEE, SLUICE_TEA"])
      }))

    it.effect("are logged whatever the provider is", () =>
      Effect.gen(function*() {
        const provider = ConfigProvider.layer(
          ConfigProvider.fromUnknown({ SLUICE_NOTIFYY: false, SLUICE_LEASE: "30s" })
        )
        expect(yield* logged(provider)).toEqual([
          "Warn: SLUICE_NOTIFYY is not a setting and has no effect; did you mean SLUICE_NOTIFY?"
        ])
      }))

    it.effect("are not logged if they are settings, the command's, set by Kubernetes or by the tests, or empty", () =>
      Effect.gen(function*() {
        const all = Object.fromEntries(variables.map(([name, , , right]) => [name, right]))
        expect(
          yield* logged(environment({
            ...all,
            SLUICE_JSON: "true",
            SLUICE_FOR: "8s",
            SLUICE_HANDLERS: "persist",
            // of services named sluice and sluice-db
            SLUICE_SERVICE_HOST: "10.0.0.1",
            SLUICE_SERVICE_PORT_METRICS: "9090",
            SLUICE_PORT: "tcp://10.0.0.1:9090",
            SLUICE_PORT_9090_TCP_ADDR: "10.0.0.1",
            SLUICE_DB_SERVICE_HOST: "10.0.0.2",
            SLUICE_TEST_SEED: "1",
            SLUICE_LAESE: ""
          }))
        ).toEqual([])
      }))
  })
})
