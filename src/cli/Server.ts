/**
 * What a drain shows of itself on a port: `/metrics` for Prometheus, `/health` (no worker of this process has fallen silent),
 * `/ready` (the database answers, the tables are current, the workers of this process beat, and nothing is refused to them).
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Option from "effect/Option"
import { Inspector } from "../Inspector.ts"
import { escapeProse } from "../internal/escape.ts"
import * as Gauges from "../store/Gauges.ts"
import * as PgServer from "../store/PgServer.ts"
import { within } from "../store/within.ts"
import * as listener from "./listener.ts"
import type { OneDrain } from "./processDrains.ts"

const metrics = HttpRouter.add(
  "GET",
  "/metrics",
  Effect.gen(function*() {
    // while the database is away the counters are shown all the same
    yield* Gauges.sample
    return HttpServerResponse.text(yield* PrometheusMetrics.format(), {
      contentType: "text/plain; version=0.0.4; charset=utf-8"
    })
  })
)

/** What an orchestrator is told: that all is well, or in one line why not. */
const answerOf = (well: string, problem: string | undefined) =>
  problem === undefined
    ? HttpServerResponse.text(`${well}\n`)
    : HttpServerResponse.text(`${escapeProse(problem)}\n`, { status: 503 })

/** Why the process must be started again: a worker came to a stop by itself. Asks no database. */
const silenceOf = Effect.fnUntraced(function*(drains: ReadonlyArray<OneDrain>) {
  const silent = (yield* Effect.forEach(drains, (drain) => drain.health)).flatMap(({ silent }) => silent ?? [])
  return silent.length === 0
    ? undefined
    : `${silent.length} of ${drains.length} workers here have fallen silent: ${silent[0]}`
})

const health = (drains: ReadonlyArray<OneDrain>) =>
  HttpRouter.add("GET", "/health", Effect.map(silenceOf(drains), (problem) => answerOf("ok", problem)))

/** What the database refuses to a worker and will go on to refuse, until somebody does something or it succeeds after all. */
const troubleOf = Effect.fnUntraced(function*(drains: ReadonlyArray<OneDrain>) {
  for (const drain of drains) {
    const { trouble } = yield* drain.health
    // what passes is found by asking; and a worker that has nothing to do would not notice that it has passed
    if (trouble === undefined || trouble.transient) continue
    // of a missing right Sluice's own sentence says what to grant; else the log says what the database said
    return trouble.code === "42501"
      ? trouble.message
      : `the database refuses ${trouble.operation} (${
        trouble.code ?? "for no reason it gives"
      }): see the log, and \`sluice doctor\``
  }
  return undefined
})

/** What keeps it from being ready. Whatever the database says is not repeated: the log and the doctor do. */
const problemOf = Effect.fnUntraced(function*(drains: ReadonlyArray<OneDrain>) {
  if ((yield* PgServer.PgServer.use((server) => server.missingMigrations)) > 0) return "migrations are missing"
  const trouble = yield* troubleOf(drains)
  if (trouble !== undefined) return trouble
  const workers = yield* Inspector.use((inspector) => inspector.workers(drains.map(({ worker }) => worker)))
  const silent = drains.length - workers.filter(({ alive }) => alive).length
  return silent === 0 ? undefined : `${silent} of ${drains.length} workers here give no sign of life`
}, (asked) =>
  Effect.catch(asked, ({ code, transient }) =>
    Effect.succeed(
      transient
        ? "the database does not answer"
        : `the database refuses (${code ?? "for no reason it gives"}): see \`sluice doctor\``
    )))

/** Shorter than probes usually wait. */
const patience = Duration.seconds(2)

const ready = (drains: ReadonlyArray<OneDrain>) =>
  HttpRouter.add(
    "GET",
    "/ready",
    Effect.map(
      within(patience)(problemOf(drains)),
      (answer) => answerOf("ready", Option.getOrElse(answer, () => "the database does not answer in time"))
    )
  )

/** Where it listens: on all addresses of this machine, unless one is named. */
export interface Place {
  readonly port: number
  readonly host: string | undefined
}

/** The server, for as long as the layer lives; healthy and ready when these drains are. */
export const layer = ({ host, port }: Place, drains: ReadonlyArray<OneDrain>) =>
  HttpRouter.serve(Layer.mergeAll(metrics, health(drains), ready(drains)), {
    disableLogger: true,
    disableListenLog: true
  })
    .pipe(
      Layer.provide(PgServer.layer),
      Layer.provide(NodeHttpServer.layer(listener.make, host === undefined ? { port } : { port, host }))
    )
