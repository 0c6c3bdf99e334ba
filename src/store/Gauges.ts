/**
 * The gauges of the queue, `sluice_queue_chunks` by state and `sluice_oldest_due_age_seconds`, and of durable subscriptions,
 * by name: how many entries each has not handled, how old the oldest of them is, how often it has failed. Every process shows
 * the same, because they are asked of the store; one that asks is enough.
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
import { Inspector } from "../Inspector.ts"
import * as Metrics from "../Metrics.ts"
import { within } from "./within.ts"

/** What a scrape waits for at most. */
const patience = Duration.seconds(1)

const states = ["ready", "scheduled", "waiting", "parked", "dead"] as const
const gaugeOf = (state: typeof states[number]) => Metric.withAttributes(Metrics.queueChunks, { state })

/** Of a subscription. */
const lagOf = (subscription: string) => ({
  unread: Metric.withAttributes(Metrics.subscriptionUnread, { subscription }),
  age: Metric.withAttributes(Metrics.subscriptionAgeSeconds, { subscription }),
  attempts: Metric.withAttributes(Metrics.subscriptionAttempts, { subscription })
})

/**
 * Asks the database and sets the gauges. When it does not answer within a second they are taken away: what is not known
 * is not shown, and never what was known an hour ago.
 */
export const sample: Effect.Effect<void, never, Inspector> = Effect.gen(function*() {
  const inspector = yield* Inspector
  const found = Option.getOrUndefined(
    yield* within(patience)(Effect.all([
      inspector.queueGauges,
      // who may look at the queue need not be one who may look at subscriptions
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
  // no tables, no rights, no server: the log and the doctor say which
  Effect.catch(() => forget)
)

/** Takes away the gauges of all subscriptions but these. */
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

/** Asks every so often, for exporters that push what they find. What was found last is what a program sends at its end. */
export const layer = (every: Duration.Input = "10 seconds"): Layer.Layer<never, never, Inspector> =>
  Layer.effectDiscard(Effect.forkScoped(Effect.forever(Effect.andThen(sample, Effect.sleep(every)))))
