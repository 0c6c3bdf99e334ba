/**
 * Sluice's metrics, built on Effect's `Metric` and named by the conventions of OpenTelemetry and Prometheus. Labels are
 * few: namespace, schema, handler, outcome; never an id, and never an unbounded set of names from callers: kinds that
 * no handler of this process serves count under `other`. The application's metrics exporter includes these.
 */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import { WhyClaimed } from "./CallView.ts"
import { metricLabel, type OutcomeName, outcomeNames } from "./internal/outcomeWords.ts"

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const lag = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400]

/** The label value for all names without a label of their own. */
export const other = "other"

/** Calls given to the recorder, counted in the recording process, labelled by the first 100 namespaces it records for. */
export const calls = Metric.counter("sluice_calls_total", {
  description: "Calls given to the recorder, by outcome",
  incremental: true
})

/** Chunks claimed by drains. */
export const claimed = Metric.counter("sluice_chunks_claimed_total", {
  description: "Chunks claimed",
  incremental: true
})

/**
 * Outcomes of claimed chunks, each counted once: see {@link values}. Namespace and schema are those of the handler that
 * serves the chunk, so a handler that serves all namespaces counts under `core`; both are `other` without a handler.
 */
export const chunks = Metric.counter("sluice_chunks_total", {
  description: "Ends of claimed chunks, by outcome",
  incremental: true
})

/** Of {@link chunks}, those of declared handlers that the database persisted by itself. */
export const inside = Metric.counter("sluice_chunks_inside_total", {
  description: "Chunks of declared handlers that the database persisted by itself",
  incremental: true
})

/**
 * Of {@link chunks}, those of declared handlers that workers claimed and persisted, by the reason why the database did
 * not persist them by itself: see `WhyClaimed` of `Inspector`.
 */
export const outside = Metric.counter("sluice_chunks_outside_total", {
  description: "Chunks of declared handlers that workers claimed and persisted, by reason",
  incremental: true
})

/** Attempts at which a handler failed: each was charged to its chunk, which was then retried or buried. */
export const attemptsFailed = Metric.counter("sluice_attempts_failed_total", {
  description: "Attempts that failed, and were charged",
  incremental: true
})

/** Dead letters redriven, counted in the process that redrove them: see `DeadLetters.redrive`. */
export const redriven = Metric.counter("sluice_chunks_redriven_total", {
  description: "Dead letters moved back to the queue",
  incremental: true
})

/** One cycle that claimed something, from claim to the last settlement. */
export const cycleSeconds = Metric.histogram("sluice_cycle_seconds", {
  description: "Duration of cycles that claimed something",
  boundaries: seconds
})

/** One transaction of a handler's batch, committed or not. */
export const batchSeconds = Metric.histogram("sluice_batch_seconds", {
  description: "Duration of a handler's batch: its transaction, committed or not",
  boundaries: seconds
})

/**
 * A handler's run over its share of a batch, from its start to the last chunk's end: `persist` for all chunks of the
 * share concurrently, or one `persistMany`. Excludes the transaction's begin, ledger and commit, which are in
 * {@link batchSeconds}. Outcome `succeeded`, or `failed` when any chunk of the share failed.
 */
export const handlerSeconds = Metric.histogram("sluice_handler_seconds", {
  description: "Duration of a handler's run over its share of a batch",
  boundaries: seconds
})

/** The time from recording to persisting a chunk. */
export const lagSeconds = Metric.histogram("sluice_record_to_persist_seconds", {
  description: "Time from recording a chunk to its commit",
  boundaries: lag
})

/** The highest count of a state for {@link queueChunks}. */
export const mostCounted = 10_000

/** Outstanding chunks by state; exact below {@link mostCounted}, a lower bound at that value. */
export const queueChunks = Metric.gauge("sluice_queue_chunks", {
  description: `Outstanding chunks, by state; ${mostCounted} stands for so many or more`
})

/** How long the oldest due chunk has waited, new or scheduled for a retry. */
export const oldestDueSeconds = Metric.gauge("sluice_oldest_due_age_seconds", {
  description: "How long the oldest due chunk has waited"
})

/** Entries that a durable subscription has not handled; exact below {@link mostCounted}, a lower bound at that value. */
export const subscriptionUnread = Metric.gauge("sluice_subscription_unread_entries", {
  description: `Entries a subscription has not handled; ${mostCounted} stands for so many or more`
})

/** How long ago the oldest entry that a durable subscription has not handled was persisted; 0 when there is none. */
export const subscriptionAgeSeconds = Metric.gauge("sluice_subscription_oldest_unread_age_seconds", {
  description: "How long ago the oldest entry a subscription has not handled was persisted"
})

/** Consecutive failures of the next entry of a durable subscription. */
export const subscriptionAttempts = Metric.gauge("sluice_subscription_failed_attempts", {
  description: "Failures in a row of the entry a subscription stands before"
})

/**
 * Tokens of recorded calls and attempts whose facts have them, with the name and the buckets of OpenTelemetry's conventions
 * for generative AI. Labels: `gen_ai.provider.name`, `gen_ai.request.model` and `gen_ai.token.type`, `input` or `output`; the first 50
 * models of a process have labels of their own. It is not one of {@link names}, which are Sluice's own.
 */
export const tokenUsage = Metric.histogram("gen_ai.client.token.usage", {
  description: "Tokens used by an operation of a model",
  boundaries: Array.from({ length: 14 }, (_, power) => 4 ** power)
})

/** Seconds that answers took, of calls and attempts whose facts have it; named and labelled like {@link tokenUsage}. */
export const operationDuration = Metric.histogram("gen_ai.client.operation.duration", {
  description: "Duration of an operation of a model, in seconds",
  boundaries: Array.from({ length: 14 }, (_, power) => 0.01 * 2 ** power)
})

/** The labels of each metric by its name, to check a dashboard against. */
export const labels: Readonly<Record<string, ReadonlyArray<string>>> = {
  [calls.id]: ["namespace", "outcome"],
  [claimed.id]: [],
  [chunks.id]: ["namespace", "schema", "handler", "outcome"],
  [inside.id]: ["handler"],
  [outside.id]: ["handler", "reason"],
  [attemptsFailed.id]: ["namespace", "schema", "handler"],
  [redriven.id]: [],
  [cycleSeconds.id]: [],
  [batchSeconds.id]: ["handler"],
  [handlerSeconds.id]: ["handler", "outcome"],
  [lagSeconds.id]: ["handler"],
  [queueChunks.id]: ["state"],
  [oldestDueSeconds.id]: [],
  [subscriptionUnread.id]: ["subscription"],
  [subscriptionAgeSeconds.id]: ["subscription"],
  [subscriptionAttempts.id]: ["subscription"]
}

/** The names of all metrics. */
export const names: ReadonlyArray<string> = Object.keys(labels)

/** The values of the labels `outcome`, `state` and `reason`, by the metric's name. */
export const values: Readonly<Record<string, ReadonlyArray<string>>> = {
  [calls.id]: ["recorded", "unchanged", "erased", "conflict", "refused"],
  // released: given back at no cost; lost: the lease ran out
  [chunks.id]: outcomeNames.map(metricLabel),
  [outside.id]: WhyClaimed.literals,
  [handlerSeconds.id]: ["succeeded", "failed"],
  [queueChunks.id]: ["ready", "scheduled", "waiting", "parked", "dead"]
}

type Labels = Readonly<Record<string, string>>

/** Keeps the labelled metrics that were made of a metric: to make one takes as long as many updates. */
const makeLabelled = <M extends Metric.Counter<number> | Metric.Histogram<number>>(
  withLabels: (metric: M, labels: Labels) => M
) => {
  const kept = new WeakMap<M, Map<string, M>>()
  return (metric: M, labels: Labels): M => {
    const known = kept.get(metric) ?? new Map<string, M>()
    kept.set(metric, known)
    const key = Object.values(labels).join("\n")
    const one = known.get(key) ?? withLabels(metric, labels)
    known.set(key, one)
    return one
  }
}
const labelledCounter = makeLabelled<Metric.Counter<number>>(Metric.withAttributes)
const labelledHistogram = makeLabelled<Metric.Histogram<number>>(Metric.withAttributes)

/** @internal Adds to a labelled counter. Not an effect, because it runs for every batch and every call. */
export const count = (
  counter: Metric.Counter<number>,
  labels: Labels,
  by: number,
  context: Context.Context<never>
): void => labelledCounter(counter, labels).updateUnsafe(by, context)

/** @internal A histogram with labels, of which there are few. */
export const of = (histogram: Metric.Histogram<number>, labels: Labels): Metric.Histogram<number> =>
  labelledHistogram(histogram, labels)

/**
 * Callers choose namespaces, and a process that only records has no handlers: only the first 100 namespaces get a
 * label.
 */
const mostNamespaces = 100
const namespaces = new Set<string>()

/** @internal Counts a call given to the recorder. */
export const countCall = (namespace: string, outcome: string, context: Context.Context<never>): void => {
  if (namespaces.size < mostNamespaces) namespaces.add(namespace)
  count(calls, { namespace: namespaces.has(namespace) ? namespace : other, outcome }, 1, context)
}

// outcomes of chunks without a handler; of chunks whose handler ran; of chunks with a handler that did not run
const withoutHandler: ReadonlyArray<OutcomeName> = ["parked", "dead", "released", "lost"]
const byHandler: ReadonlyArray<OutcomeName> = ["persisted", "nothingToCreate", "retried", "dead"]
const besideHandler: ReadonlyArray<OutcomeName> = ["alreadyPersisted", ...withoutHandler]

/**
 * @internal Starts all series of these handlers at 0: then the first failure of a kind is an increase that alert rules
 * see, and not a new series.
 */
export const begin = (
  handlers: ReadonlyArray<{ readonly namespace: string; readonly schema: string; readonly handler: string }>,
  context: Context.Context<never>
): void => {
  count(claimed, {}, 0, context)
  for (const outcome of withoutHandler) {
    count(chunks, { namespace: other, schema: other, handler: "", outcome: metricLabel(outcome) }, 0, context)
  }
  for (const kind of handlers) {
    const withoutHandler = { ...kind, handler: "" }
    for (const outcome of byHandler) count(chunks, { ...kind, outcome: metricLabel(outcome) }, 0, context)
    for (const outcome of besideHandler) count(chunks, { ...withoutHandler, outcome: metricLabel(outcome) }, 0, context)
    count(attemptsFailed, kind, 0, context)
  }
}
