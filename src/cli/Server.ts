/**
 * What a drain shows of itself on a port: `/metrics` for Prometheus, `/health` (it lives), `/ready` (the database answers,
 * the tables are current, and the worker beats).
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as SqlClient from "effect/sql/SqlClient"
import { createServer } from "node:http"
import * as Settings from "../Settings.ts"
import * as Gauges from "../store/Gauges.ts"
import * as Migrations from "../store/Migrations.ts"
import * as ask from "../store/pg/doctor.ts"

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

const readiness = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const { schema } = yield* Settings.load
  const all = yield* Migrations.list(schema)
  const applied = yield* sql`select from ${sql(`${schema}.migration`)}`
  if (applied.length < all.length) return "migrations are missing"
  const [workers] = yield* ask.workers(sql, schema)
  return (workers?.alive ?? 0) > 0 ? undefined : "no worker has beaten yet"
}).pipe(
  Effect.catch(() => Effect.succeed("the database does not answer")),
  Effect.timeoutOrElse({ duration: "5 seconds", orElse: () => Effect.succeed("the database does not answer in time") })
)

const ready = HttpRouter.add(
  "GET",
  "/ready",
  Effect.map(readiness, (problem) =>
    problem === undefined
      ? HttpServerResponse.text("ready\n")
      : HttpServerResponse.text(`${problem}\n`, { status: 503 }))
)

/** The server, for as long as the layer lives. */
export const layer = (port: number) =>
  HttpRouter.serve(Layer.mergeAll(metrics, health, ready), { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provide(NodeHttpServer.layer(createServer, { port }))
  )
