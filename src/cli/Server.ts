/**
 * What a drain shows of itself on a port: `/metrics` for Prometheus, `/health` (it lives), `/ready` (the database answers,
 * the tables are current, and the workers of this process beat).
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { isSqlError } from "effect/sql/SqlError"
import * as Settings from "../Settings.ts"
import * as Gauges from "../store/Gauges.ts"
import * as Migrations from "../store/Migrations.ts"
import * as ask from "../store/pg/doctor.ts"
import { codeOf, isTransient } from "../store/pg/errors.ts"
import { within } from "../store/within.ts"
import * as listener from "./listener.ts"

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

const health = HttpRouter.add("GET", "/health", HttpServerResponse.text("ok\n"))

/** What keeps it from being ready. Whatever the database says is not repeated: the log and the doctor do. */
const problemOf = Effect.fnUntraced(function*(workers: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  const { schema } = yield* Settings.load
  if ((yield* Migrations.missing).length > 0) return "migrations are missing"
  const [beating] = yield* ask.beating(sql, schema, workers)
  const silent = workers.length - (beating?.count ?? 0)
  return silent === 0 ? undefined : `${silent} of ${workers.length} workers here give no sign of life`
}, (asked) =>
  Effect.catch(asked, (error) =>
    Effect.succeed(
      !isSqlError(error)
        ? error.message
        : isTransient(error)
        ? "the database does not answer"
        : `the database refuses (${codeOf(error) ?? "for no reason it gives"}): see \`sluice doctor\``
    )))

/** Shorter than probes usually wait. */
const patience = Duration.seconds(2)

const ready = (workers: ReadonlyArray<string>) =>
  HttpRouter.add(
    "GET",
    "/ready",
    Effect.map(within(patience)(problemOf(workers)), (answer) => {
      const problem = Option.getOrElse(answer, () => "the database does not answer in time")
      return problem === undefined
        ? HttpServerResponse.text("ready\n")
        : HttpServerResponse.text(`${problem}\n`, { status: 503 })
    })
  )

/** Where it listens: on all addresses of this machine, unless one is named. */
export interface Place {
  readonly port: number
  readonly host: string | undefined
}

/** The server, for as long as the layer lives; ready when these workers are. */
export const layer = ({ host, port }: Place, workers: ReadonlyArray<string>) =>
  HttpRouter.serve(Layer.mergeAll(metrics, health, ready(workers)), { disableLogger: true, disableListenLog: true })
    .pipe(
      Layer.provide(NodeHttpServer.layer(listener.make, host === undefined ? { port } : { port, host }))
    )
