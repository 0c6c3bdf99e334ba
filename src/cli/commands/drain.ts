/**
 * `sluice drain`: persists recorded chunks: one batch, until nothing is due, or until it is told to stop.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { Report } from "../../Drain.ts"
import { HandlerRegistry } from "../../HandlerRegistry.ts"
import * as Identity from "../../Identity.ts"
import { Inspector } from "../../Inspector.ts"
import { quote } from "../../internal/quote.ts"
import { Pauses } from "../../Pauses.ts"
import * as Settings from "../../Settings.ts"
import * as Application from "../Application.ts"
import * as Database from "../Database.ts"
import * as durationFlag from "../durationFlag.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import * as processDrains from "../processDrains.ts"
import * as stopping from "../stopping.ts"
import * as Telemetry from "../Telemetry.ts"
import { say } from "../Terminal.ts"

/** What `sluice drain --check --json` prints. */
export const Checked = Schema.Struct({ handlers: Schema.Array(Schema.String) })

/** What `sluice drain --until-empty --json` and `--for … --json` print: what was done, and what waits until later. */
export const Drained = Schema.Struct({
  ...Report.fields,
  later: Schema.Struct({
    /** Chunks that wait for another attempt, or for the `notBefore` of their call. */
    chunks: Schema.Int,
    /** When the first of them is due. */
    next: Schema.NullOr(Schema.DateTimeUtcFromString)
  })
})

/** What a count of a report is of. `retried` counts chunks that have failed, and are still to be tried again. */
const inProse = (what: string): string =>
  what === "retried" ? "to be retried" : what.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)

const inWords = (report: Report): string => {
  const { claimed, ...rest } = report
  const parts = Object.entries(rest).filter(([, count]) => count > 0)
    .map(([what, count]) => `${count} ${inProse(what)}`)
  return claimed === 0 ? "nothing was due" : `${claimed} claimed: ${parts.join(", ")}`
}

const printed = (json: boolean) => (report: Report, before = "") =>
  json ? print.json(Report, report) : print.line(`${before}${inWords(report)}`)

/** Prints what was done until nothing was due, and what waits until later. */
const printedToTheEnd = Effect.fnUntraced(function*(json: boolean, report: Report, namespace: string | undefined) {
  const { chunks, next } = yield* Inspector.use((inspector) => inspector.later(namespace))
  if (json) return yield* print.json(Drained, { ...report, later: { chunks, next: next ?? null } })
  yield* print.line(inWords(report))
  if (next === undefined) return
  const millis = DateTime.toEpochMillis(next) - DateTime.toEpochMillis(yield* DateTime.now)
  yield* print.line(
    `${print.counted(chunks, "chunk")} ${chunks === 1 ? "waits" : "wait"} until later, the next until ${
      DateTime.formatIso(next)
    } (in ${print.ago(millis)})`
  )
})

type Times = Schedule.Schedule<unknown, void, Cron.CronParseError>
/** The ways to drain. */
type Way =
  | { readonly _tag: "Once" }
  | { readonly _tag: "UntilEmpty" }
  /** Until nothing is due or the time is over. */
  | { readonly _tag: "Limited"; readonly time: Duration.Duration }
  /** Until told to stop. With `--cron` it ignores hints: it drains at these times, not when a call is recorded. */
  | { readonly _tag: "Forever"; readonly schedule: Times; readonly hints: boolean }

interface Ways {
  readonly untilEmpty: Option.Option<boolean>
  readonly every: Option.Option<string>
  readonly cron: Option.Option<string>
  readonly limit: Option.Option<string>
}

/** The ways set in the environment or the file. They count only if no flag sets one. */
const standing = Effect.gen(function*() {
  const found: Ways = {
    untilEmpty: Option.some(yield* options.switchOf(Option.none(), "SLUICE_UNTIL_EMPTY")),
    every: yield* options.textOf(Option.none(), "SLUICE_EVERY"),
    cron: yield* options.textOf(Option.none(), "SLUICE_CRON"),
    limit: yield* options.textOf(Option.none(), "SLUICE_FOR")
  }
  return found
})

const wayOf = Effect.fnUntraced(function*(flags: Ways): Effect.fn.Return<Way, Failed> {
  const isAsked = Object.values(flags).some(Option.isSome)
  const { cron, every, limit, untilEmpty } = isAsked ? flags : yield* standing
  const toTheEnd = Option.getOrElse(untilEmpty, () => false)
  if (Number(toTheEnd) + [cron, every, limit].filter(Option.isSome).length > 1) {
    const ways = isAsked
      ? "--until-empty, --every, --cron and --for"
      : "SLUICE_UNTIL_EMPTY, SLUICE_EVERY, SLUICE_CRON and SLUICE_FOR"
    return yield* new Failed({ reason: `${ways} are four ways to drain: give one` })
  }
  if (Option.isSome(cron)) {
    const parsed = Cron.parse(cron.value)
    if (Result.isSuccess(parsed)) {
      return { _tag: "Forever", schedule: Schedule.cron(parsed.success), hints: false }
    }
    const reason = `${options.sayOf(flags.cron, "SLUICE_CRON")}: ${
      quote(cron.value)
    } is none; write "*/5 * * * *" (${parsed.failure.message})`
    return yield* new Failed({ reason })
  }
  if (Option.isSome(every)) {
    const schedule: Times = Schedule.spaced(
      yield* durationFlag.read(options.sayOf(flags.every, "SLUICE_EVERY"), every.value)
    )
    return { _tag: "Forever", schedule, hints: true }
  }
  if (Option.isSome(limit)) {
    return { _tag: "Limited", time: yield* durationFlag.read(options.sayOf(flags.limit, "SLUICE_FOR"), limit.value) }
  }
  return { _tag: toTheEnd ? "UntilEmpty" : "Once" }
})

/** Starts a countdown. The result returns the time that is left. */
const countdown = Effect.fnUntraced(function*(time: Duration.Duration) {
  const clock = yield* Clock.Clock
  const began = clock.monotonicTimeNanosUnsafe()
  return () =>
    Duration.millis(Math.max(0, Duration.toMillis(time) - Number(clock.monotonicTimeNanosUnsafe() - began) / 1e6))
})

/** Limits the build of a layer to the time left: it may wait for another process's migration, or for a starting server. */
const inTime = <A, E, R>(layer: Layer.Layer<A, E, R>, left: (() => Duration.Duration) | undefined) =>
  left === undefined ? layer : Layer.effectContext(
    Effect.suspend(() =>
      Effect.timeoutOrElse(Layer.build(layer), {
        duration: left(),
        orElse: () =>
          new Failed({ reason: "--for: the time was over before anything could be drained; nothing was claimed" })
      })
    )
  )

/** The one namespace to drain. A text that cannot be one would drain nothing, and be content. */
const namespaceOf = Effect.fnUntraced(function*(flag: Option.Option<string>) {
  const namespace = yield* options.textOf(flag, "SLUICE_NAMESPACE")
  const problem = Option.isSome(namespace) ? Identity.partProblem(namespace.value) : undefined
  if (Option.isNone(namespace) || problem === undefined) return namespace
  return yield* new Failed({
    reason: `${options.sayOf(flag, "SLUICE_NAMESPACE")}: ${quote(namespace.value)} is not a namespace: it ${problem}`
  })
})

/** `--check`: builds the handlers as a drain does, looks at the tables of declared ones, and claims nothing. */
const check = Effect.fnUntraced(function*(
  { embedded, handlers, url }: {
    readonly embedded: boolean
    readonly handlers: ReadonlyArray<string>
    readonly url: Option.Option<string>
  },
  json: boolean
) {
  if (embedded && (yield* Database.isAbsent(url))) {
    return yield* new Failed({
      reason: "--check makes no database, and there is none in ./.sluice yet: `sluice migrate --embedded` makes it"
    })
  }
  const checked = Effect.gen(function*() {
    const { list } = yield* HandlerRegistry
    const inspector = yield* Inspector
    for (const { declaration, name } of list) {
      if (declaration === undefined) continue
      yield* Effect.catchTag(
        inspector.declaration(declaration),
        "TableUnfit",
        (error) => new Failed({ reason: `handler ${name}: ${error.message}` })
      )
    }
    yield* json
      ? print.json(Checked, { handlers: list.map(({ name }) => name) })
      : print.line(`loaded and built ${print.counted(list.length, "handler")}; nothing was claimed`)
  })
  return yield* Effect.provide(checked, Application.layer(Database.storesAsTheyAre(url, { embedded }), handlers))
})

/** The command. */
export const drain = Command.make(
  "drain",
  {
    ...options.common,
    embedded: options.embedded,
    handlers: Application.handlersFlag,
    untilEmpty: options.maybe("until-empty", "continue until nothing is due; default: one batch"),
    every: Flag.String("every").pipe(
      Flag.withMetavar("SPAN"),
      Flag.withDescription("run until stopped, and look for work this often: 5s"),
      Flag.optional
    ),
    cron: Flag.String("cron").pipe(
      Flag.withMetavar("CRON"),
      Flag.withDescription("run until stopped, and look for work at these times: \"*/5 * * * *\""),
      Flag.optional
    ),
    limit: Flag.String("for").pipe(
      Flag.withMetavar("SPAN"),
      Flag.withDescription(
        "continue until nothing is due, for at most this long; then give back unfinished chunks, and exit with 0: 8s"
      ),
      Flag.optional
    ),
    namespace: Flag.String("namespace").pipe(
      Flag.withMetavar("NAME"),
      Flag.withDescription("claim only this namespace's chunks (SLUICE_NAMESPACE)"),
      Flag.optional
    ),
    metricsPort: Flag.Int("metrics-port").pipe(
      Flag.withMetavar("PORT"),
      Flag.withDescription("serve /metrics, /health and /ready on this port (SLUICE_METRICS_PORT)"),
      Flag.optional
    ),
    metricsHost: Flag.String("metrics-host").pipe(
      Flag.withMetavar("HOST"),
      Flag.withDescription("the address to listen on; default: all addresses of this machine (SLUICE_METRICS_HOST)"),
      Flag.optional
    ),
    check: options.on("check", "load and build the handlers, report what is wrong, and claim nothing"),
    workers: Flag.Int("workers").pipe(
      Flag.withDescription("the number of concurrent drains (SLUICE_WORKERS)"),
      Flag.optional
    )
  },
  (given) =>
    Effect.gen(function*() {
      // reports a wrong flag before anything is opened
      const way = yield* wayOf({
        untilEmpty: given.untilEmpty,
        every: given.every,
        cron: given.cron,
        limit: given.limit
      })
      const left = way._tag === "Limited" ? yield* countdown(way.time) : undefined
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const namespace = yield* namespaceOf(given.namespace)
      const found = yield* options.numberOf(given.workers, "SLUICE_WORKERS", { minimum: 1, maximum: 64 })
      const workers = Option.getOrElse(found, () => 1)
      const port = yield* options.numberOf(given.metricsPort, "SLUICE_METRICS_PORT", { minimum: 1, maximum: 65_535 })
      const host = yield* options.textOf(given.metricsHost, "SLUICE_METRICS_HOST")
      if (Option.isSome(given.metricsHost) && Option.isNone(port)) {
        return yield* new Failed({ reason: "--metrics-host: say on which port as well, by --metrics-port" })
      }
      const report = printed(json)
      const settings = yield* Settings.Settings
      const run = Effect.gen(function*() {
        const drains = yield* processDrains.make(workers, namespace)
        const served = Option.isSome(port)
          // loaded only when it is needed: it needs many modules
          ? (yield* Effect.promise(() => import("../Server.ts")))
            .layer({ port: port.value, host: Option.getOrUndefined(host) }, drains)
          : Layer.empty
        yield* Layer.build(Layer.merge(served, Telemetry.gauges))
        // explains why nothing is drained; without a database the drain starts anyway
        const pauses = yield* Effect.orElseSucceed(Pauses.use((pauses) => pauses.list), () => [])
        for (const pause of pauses) yield* say(print.pause(pause))
        stopping.limit(settings.gracePeriod)
        if (way._tag === "Forever") {
          return yield* processDrains.forever(drains, way, (total) => report(total, "stopped; "))
        }
        const once = way._tag === "Once"
        const partly = (total: Report) => report(total, "stopped before the end; ")
        const total = yield* processDrains.toTheEnd(drains, { once, left, namespace, partly })
        yield* once ? report(total) : printedToTheEnd(json, total, Option.getOrUndefined(namespace))
      })
      if (given.check) return yield* check(given, json)
      const connections = processDrains.connections(workers, settings)
      const where = [
        options.sayOf(given.metricsPort, "SLUICE_METRICS_PORT"),
        ...Option.isSome(host) ? [options.sayOf(given.metricsHost, "SLUICE_METRICS_HOST")] : []
      ]
      yield* Effect.scoped(run).pipe(
        Effect.catchTag(
          "ServeError",
          ({ cause }) => new Failed({ reason: `${where.join(" and ")}: ${String(cause)}` })
        ),
        Effect.provide(
          inTime(
            Application.layer(Database.stores(given.url, { connections, embedded: given.embedded }), given.handlers),
            left
          )
        )
      )
    }).pipe(told)
).pipe(
  Command.withDescription(
    "Run the handlers that are found on what is recorded. --until-empty, --every, --cron and --for can also " +
      "be set by SLUICE_UNTIL_EMPTY, SLUICE_EVERY, SLUICE_CRON and SLUICE_FOR"
  ),
  Command.withShortDescription("Run the handlers that are found on what is recorded"),
  Command.withExamples([
    { command: "sluice drain --until-empty", description: "Persist everything that is due" },
    { command: "sluice drain --check", description: "Before a deployment: are the handlers complete?" },
    { command: "sluice drain --every 5s --workers 2", description: "Run until SIGTERM" },
    { command: "sluice drain --for 8s", description: "Run in a function that is killed after 10 seconds" },
    { command: "sluice drain --every 1s --metrics-port 9090", description: "Run with metrics for Prometheus" },
    {
      command: "sluice drain --cron \"*/5 * * * *\" --handlers \"dist/**/persist/*.js\"",
      description: "Run every five minutes"
    }
  ])
)
