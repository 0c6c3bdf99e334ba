/**
 * Publishes the gauges of the queue, `sluice_queue_chunks` by state and `sluice_oldest_due_age_seconds`, and of durable
 * subscriptions, by name: how many entries are unread, how old the oldest of them is, how often it has failed. The values
 * come from the store, so every process shows the same ones; one process that publishes them is enough.
 *
 * ```ts
 * const telemetry = Layer.mergeAll(Otlp.layerJson({ baseUrl: "http://localhost:4318" }), Gauges.layer())
 * ```
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import { Inspector } from "../Inspector.ts"
import * as Metrics from "../Metrics.ts"
import { within } from "./within.ts"

/** The longest time a scrape waits for the store. */
const timeout = Duration.seconds(1)

const states = ["ready", "scheduled", "waiting", "parked", "dead"] as const
const gaugeOf = (state: typeof states[number]) => Metric.withAttributes(Metrics.queueChunks, { state })

/** The gauges of a subscription. */
const lagOf = (subscription: string) => ({
  unread: Metric.withAttributes(Metrics.subscriptionUnread, { subscription }),
  age: Metric.withAttributes(Metrics.subscriptionAgeSeconds, { subscription }),
  attempts: Metric.withAttributes(Metrics.subscriptionAttempts, { subscription })
})

/**
 * Reads the store and sets the gauges. When the store does not answer within a second, the gauges are removed: a stale value
 * is never shown.
 */
export const sample: Effect.Effect<void, never, Inspector> = Effect.gen(function*() {
  const inspector = yield* Inspector
  const found = Option.getOrUndefined(
    yield* within(timeout)(Effect.all([
      inspector.queueGauges,
      // a role may have rights on the queue but not on subscriptions
      Effect.orElseSucceed(inspector.subscriptionGauges, () => [])
    ]))
  )
  if (found === undefined) return yield* forget
  const [queue, lags] = found
  for (const state of states) yield* Metric.update(gaugeOf(state), queue[state])
  yield* Metric.update(Metrics.oldestDueSeconds, Math.max(0, queue.oldest ?? 0))
  yield* forgetSubscriptions(new Set(lags.map(({ name }) => name)))
  for (const { age, attempts, name, unread } of lags) {
    const lag = lagOf(name)
    yield* Metric.update(lag.unread, unread)
    yield* Metric.update(lag.age, age)
    yield* Metric.update(lag.attempts, attempts)
  }
}).pipe(
  // missing tables, missing rights, no server: the log and the doctor name the cause
  Effect.catch(() => forget)
)

/** Removes the gauges of all other subscriptions. */
const forgetSubscriptions = Effect.fnUntraced(function*(kept: ReadonlySet<string>) {
  for (const { attributes, id } of yield* Metric.snapshot) {
    const name = attributes?.["subscription"]
    if (id !== Metrics.subscriptionUnread.id || name === undefined || kept.has(name)) continue
    for (const gauge of Object.values(lagOf(name))) yield* Metric.remove(gauge)
  }
})

const forget = Effect.andThen(
  Effect.forEach(
    [...states.map(gaugeOf), Metrics.oldestDueSeconds],
    (gauge) => Metric.remove(gauge),
    { discard: true }
  ),
  forgetSubscriptions(new Set())
)

/** Samples at an interval, for exporters that push. A program that ends sends the last sample. */
export const layer = (every: Duration.Input = "10 seconds"): Layer.Layer<never, never, Inspector> =>
  Layer.effectDiscard(Effect.forkScoped(Effect.forever(Effect.andThen(sample, Effect.sleep(every)))))
