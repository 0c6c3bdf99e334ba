/**
 * What Sluice counts and times, by Effect's `Metric`, named as OpenTelemetry and Prometheus name things. Labels are few:
 * namespace, schema, handler, outcome; never an id. Whoever exports an application's metrics exports these.
 */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const lag = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400]

/** Calls given to the recorder: outcome `recorded`, `unchanged`, `conflict` or `refused`. */
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
 * What became of claimed chunks: outcome `persisted`, `nothing_to_create`, `already_persisted`, `retried`, `parked`,
 * `dead`, `released` or `lost` (the lease was).
 */
export const chunks = Metric.counter("sluice_chunks_total", {
  description: "Ends of claimed chunks, by outcome",
  incremental: true
})

/** Dead letters that people moved back: see `DeadLetters.redrive`. */
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

/** From recorded to persisted. */
export const lagSeconds = Metric.histogram("sluice_record_to_persist_seconds", {
  description: "Time from recording a chunk to its commit",
  boundaries: lag
})

/** How many rows the queue has, by the database's own estimate. */
export const queueRows = Metric.gauge("sluice_queue_rows", {
  description: "Outstanding chunks, as the database estimates them"
})

/** How long the oldest chunk that is due has waited. */
export const oldestDueSeconds = Metric.gauge("sluice_oldest_due_age_seconds", {
  description: "How long the oldest due chunk has waited"
})

/** The names of all of them, for whoever checks a dashboard. */
export const names: ReadonlyArray<string> = [
  calls,
  claimed,
  chunks,
  redriven,
  cycleSeconds,
  batchSeconds,
  lagSeconds,
  queueRows,
  oldestDueSeconds
].map((metric) => metric.id)

const labelled = new WeakMap<Metric.Counter<number>, Map<string, Metric.Counter<number>>>()

/** @internal Adds to a counter, for labels: at once, because it is done for every batch and every call. */
export const count = (
  counter: Metric.Counter<number>,
  labels: Readonly<Record<string, string>>,
  by: number,
  context: Context.Context<never>
): void => {
  const known = labelled.get(counter) ?? new Map<string, Metric.Counter<number>>()
  labelled.set(counter, known)
  const key = Object.values(labels).join("/")
  let one = known.get(key)
  if (one === undefined) known.set(key, one = Metric.withAttributes(counter, labels))
  one.updateUnsafe(by, context)
}
