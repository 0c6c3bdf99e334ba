/**
 * `sluice drain`: persists what is recorded, once, until there is nothing left, or for as long as it runs.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Cron from "effect/Cron"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { addReports, Drain, emptyReport, Report } from "../../Drain.ts"
import { DrainWorker, type WorkerOptions } from "../../DrainWorker.ts"
import * as Settings from "../../Settings.ts"
import * as ask from "../../store/pg/doctor.ts"
import * as Application from "../Application.ts"
import * as Database from "../Database.ts"
import * as print from "../print.ts"
import * as Server from "../Server.ts"

const inWords = (report: Report): string => {
  const { claimed, ...rest } = report
  const parts = Object.entries(rest).filter(([, count]) => count > 0).map(([what, count]) =>
    `${count} ${what.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)}`
  )
  return claimed === 0 ? "nothing was due" : `${claimed} claimed: ${parts.join(", ")}`
}

/** Tells how it goes, and how long it may take: on one line of a terminal, else on a line now and then. */
const progress = (before: number) => {
  const started = performance.now()
  let told = 0
  return (done: number) =>
    Effect.sync(() => {
      const rate = done / Math.max(0.001, (performance.now() - started) / 1000)
      // more may have been recorded meanwhile
      const total = Math.max(before, done)
      const left = print.ago(Math.ceil((total - done) / rate) * 1000)
      const bar = "#".repeat(Math.round(20 * done / total)).padEnd(20, ".")
      const line = `${done} of ${total} chunks, ${Math.round(rate)}/s, ${left} left`
      if (process.stderr.isTTY) process.stderr.write(`\r[${bar}] ${line}`.padEnd(79))
      else if (Math.floor(done / 1000) > Math.floor(told / 1000)) process.stderr.write(`${line}\n`)
      told = done
    })
}

const drainOf = (namespace: Option.Option<string>) =>
  Option.isSome(namespace) ? Drain.layerNamespace(namespace.value) : Drain.layer
type Drains = ReturnType<typeof drainOf>
type Times = Schedule.Schedule<unknown, void, Cron.CronParseError>

const once = Effect.flatMap(Drain, (drain) => drain.cycle)

const untilEmpty = (workers: number, drains: Drains, namespace: Option.Option<string>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const { schema } = yield* Settings.load
    const [before] = yield* ask.ready(sql, schema, Option.getOrUndefined(namespace))
    const tell = progress(before?.count ?? 0)
    let total = emptyReport
    const worker = Effect.gen(function*() {
      const drain = yield* Drain
      while (true) {
        const report = yield* drain.cycle
        if (report.claimed === 0) return
        total = addReports(total, report)
        yield* tell(total.claimed)
      }
    })
    yield* Effect.forEach(Array.from({ length: workers }), () => Effect.provide(worker, Layer.fresh(drains)), {
      concurrency: "unbounded",
      discard: true
    })
    if (process.stderr.isTTY && total.claimed > 0) process.stderr.write("\n")
    return total
  })

const worker = (options: WorkerOptions<Cron.CronParseError>, workers: number, drains: Drains) =>
  Layer.mergeAll(
    DrainWorker.layer(options),
    ...Array.from(
      { length: workers - 1 },
      () => Layer.fresh(DrainWorker.layer(options).pipe(Layer.provide(Layer.fresh(drains))))
    )
  )

/** The schedule that the flags ask for; none for a drain that ends. */
const scheduleOf = Effect.fnUntraced(function*({ cron, every, toTheEnd }: {
  readonly cron: Option.Option<string>
  readonly every: Option.Option<string>
  readonly toTheEnd: boolean
}) {
  if (Number(toTheEnd) + [cron, every].filter(Option.isSome).length > 1) {
    return yield* new Database.Failed({ reason: "--until-empty, --every and --cron are three ways to drain: give one" })
  }
  if (Option.isSome(cron)) {
    const parsed = Cron.parse(cron.value)
    if (Result.isSuccess(parsed)) return Option.some<Times>(Schedule.cron(parsed.success))
    const reason = `--cron: ${JSON.stringify(cron.value)} is none; write "*/5 * * * *" (${parsed.failure.message})`
    return yield* new Database.Failed({ reason })
  }
  if (Option.isNone(every)) return Option.none<Times>()
  const interval = yield* Effect.mapError(
    Schema.decodeEffect(Schema.DurationFromString)(every.value),
    () => new Database.Failed({ reason: `--every: ${JSON.stringify(every.value)} is no duration; write "5 seconds"` })
  )
  return Option.some<Times>(Schedule.spaced(interval))
})

/** The command. */
export const drain = Command.make(
  "drain",
  {
    ...Database.common,
    handlers: Application.handlersFlag,
    untilEmpty: Flag.Boolean("until-empty").pipe(
      Flag.withDescription("go on until nothing is due; without, one batch"),
      Flag.withDefault(false)
    ),
    every: Flag.String("every").pipe(
      Flag.withMetavar("DURATION"),
      Flag.withDescription("run until told to stop, and look this often: \"5 seconds\""),
      Flag.optional
    ),
    cron: Flag.String("cron").pipe(
      Flag.withMetavar("CRON"),
      Flag.withDescription("run until told to stop, and look at these times: \"*/5 * * * *\""),
      Flag.optional
    ),
    namespace: Flag.String("namespace").pipe(
      Flag.withMetavar("NAME"),
      Flag.withDescription("only this namespace's chunks"),
      Flag.optional
    ),
    metricsPort: Flag.Int("metrics-port").pipe(
      Flag.withMetavar("PORT"),
      Flag.withDescription("serve /metrics, /health and /ready while it runs"),
      Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_535 }))),
      Flag.optional
    ),
    workers: Flag.Int("workers").pipe(
      Flag.withDescription("how many drains at once"),
      Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 64 }))),
      Flag.withDefault(1)
    )
  },
  ({ cron, every, handlers, json, metricsPort, namespace, untilEmpty: toTheEnd, url, workers }) =>
    Effect.gen(function*() {
      // a wrong flag is told of before anything is opened
      const schedule = yield* scheduleOf({ cron, every, toTheEnd })
      const drains = drainOf(namespace)
      const run = Effect.gen(function*() {
        if (Option.isSome(schedule)) {
          return yield* Effect.provide(
            Effect.andThen(Console.error("draining; Ctrl-C or SIGTERM stops"), Effect.never),
            // who asks for times wants these times, not the moment in which something is recorded
            worker({ schedule: schedule.value, hints: Option.isSome(every) }, workers, drains)
          )
        }
        const report = yield* toTheEnd ? untilEmpty(workers, drains, namespace) : once
        if (json) return yield* print.json(Report, report)
        yield* Console.log(inWords(report))
      })
      const served = Option.isSome(metricsPort) ? Server.layer(metricsPort.value) : Layer.empty
      yield* Effect.provide(run, Layer.merge(drains, served).pipe(Layer.provideMerge(Application.layer(url, handlers))))
    }).pipe(
      Effect.catchTag("ServeError", ({ cause }) => new Database.Failed({ reason: `--metrics-port: ${String(cause)}` })),
      Effect.scoped,
      Database.told
    )
).pipe(
  Command.withDescription("Persist what is recorded, by the handlers that are found"),
  Command.withExamples([
    { command: "sluice drain --until-empty", description: "Persist all that is due" },
    { command: "sluice drain --every \"5 seconds\" --workers 2", description: "Go on until SIGTERM" },
    { command: "sluice drain --every \"1 second\" --metrics-port 9090", description: "Watched by Prometheus" },
    { command: "sluice drain --cron \"*/5 * * * *\" --handlers \"dist/**/persist/*.js\"", description: "At times" }
  ])
)
