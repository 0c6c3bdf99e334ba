/**
 * The gauges of the queue: `sluice_queue_chunks` by state, and `sluice_oldest_due_age_seconds`. Every process shows the
 * same, because they are asked of the database; one that asks is enough.
 *
 * ```ts
 * const telemetry = Layer.mergeAll(Otlp.layerJson({ baseUrl }), Gauges.layer())
 * ```
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as Metrics from "../Metrics.ts"
import * as Settings from "../Settings.ts"
import * as ask from "./pg/gauges.ts"
import { within } from "./within.ts"

/** What a scrape waits for at most. */
const patience = Duration.seconds(1)

const states = ["ready", "scheduled", "waiting", "parked", "dead"] as const
const gaugeOf = (state: typeof states[number]) => Metric.withAttributes(Metrics.queueChunks, { state })

/**
 * Asks the database and sets the gauges. When it does not answer within a second they are taken away: what is not known
 * is not shown, and never what was known an hour ago.
 */
export const sample: Effect.Effect<void, never, SqlClient.SqlClient> = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const { schema } = yield* Settings.load
  const [found] = Option.getOrElse(yield* within(patience)(ask.gauges(sql, schema, Metrics.mostCounted)), () => [])
  if (found === undefined) return yield* forget
  for (const state of states) yield* Metric.update(gaugeOf(state), found[state])
  yield* Metric.update(Metrics.oldestDueSeconds, Math.max(0, found.oldest ?? 0))
}).pipe(
  // no tables, no rights, no server: the log and the doctor say which
  Effect.catch(() => forget)
)

const forget = Effect.forEach(
  [...states.map(gaugeOf), Metrics.oldestDueSeconds],
  (gauge) => Metric.remove(gauge),
  { discard: true }
)

/** Asks every so often, for exporters that push what they find. What was found last is what a program sends at its end. */
export const layer = (every: Duration.Input = "10 seconds"): Layer.Layer<never, never, SqlClient.SqlClient> =>
  Layer.effectDiscard(Effect.forkScoped(Effect.forever(Effect.andThen(sample, Effect.sleep(every)))))
