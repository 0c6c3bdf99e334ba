/**
 * The HTTP endpoints of a drain: `/metrics` for Prometheus, `/health` (no worker of this process has fallen silent) and
 * `/ready` (the database answers, the tables are current, this process's workers beat, the database refuses them nothing).
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
    // does not fail without the database: the counters are served anyway
    yield* Gauges.sample
    return HttpServerResponse.text(yield* PrometheusMetrics.format(), {
      contentType: "text/plain; version=0.0.4; charset=utf-8"
    })
  })
)

/** The answer to a probe: status 200, or status 503 with the problem in one line. */
const answerOf = (well: string, problem: string | undefined) =>
  problem === undefined
    ? HttpServerResponse.text(`${well}\n`)
    : HttpServerResponse.text(`${escapeProse(problem)}\n`, { status: 503 })

/** Why the process must be restarted: a worker stopped without being told to. Does not ask the database. */
const silenceOf = Effect.fnUntraced(function*(drains: ReadonlyArray<OneDrain>) {
  const silent = (yield* Effect.forEach(drains, (drain) => drain.health)).flatMap(({ silent }) => silent ?? [])
  return silent.length === 0
    ? undefined
    : `${silent.length} of ${drains.length} workers here have fallen silent: ${silent[0]}`
})

const health = (drains: ReadonlyArray<OneDrain>) =>
  HttpRouter.add("GET", "/health", Effect.map(silenceOf(drains), (problem) => answerOf("ok", problem)))

/** A lasting refusal of the database: an operation of a worker that fails until it succeeds again. */
const troubleOf = Effect.fnUntraced(function*(drains: ReadonlyArray<OneDrain>) {
  for (const drain of drains) {
    const { trouble } = yield* drain.health
    // the queries of `/ready` detect transient trouble; an idle worker would not notice that it has passed
    if (trouble === undefined || trouble.transient) continue
    // for a missing right, Sluice's own message says what to grant; any other message stays in the log
    return trouble.code === "42501"
      ? trouble.message
      : `the database refuses ${trouble.operation} (${
        trouble.code ?? "for no reason it gives"
      }): see the log, and \`sluice doctor\``
  }
  return undefined
})

/** Why the process is not ready. Does not quote the database: the log and the doctor do. */
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

/** Shorter than the usual timeout of a probe. */
const longestProbe = Duration.seconds(2)

const ready = (drains: ReadonlyArray<OneDrain>) =>
  HttpRouter.add(
    "GET",
    "/ready",
    Effect.map(
      within(longestProbe)(problemOf(drains)),
      (answer) => answerOf("ready", Option.getOrElse(answer, () => "the database does not answer in time"))
    )
  )

/** Where the server listens: on all addresses of this machine, unless `host` is given. */
export interface Place {
  readonly port: number
  readonly host: string | undefined
}

/** Serves the endpoints as long as the layer lives. `/health` and `/ready` report on these drains. */
export const layer = ({ host, port }: Place, drains: ReadonlyArray<OneDrain>) =>
  HttpRouter.serve(Layer.mergeAll(metrics, health(drains), ready(drains)), {
    disableLogger: true,
    disableListenLog: true
  })
    .pipe(
      Layer.provide(PgServer.layer),
      Layer.provide(NodeHttpServer.layer(listener.make, host === undefined ? { port } : { port, host }))
    )
