/** Records the metrics of a claim: once per claim, by kind and outcome, not once per chunk. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import type { ClaimedChunk, InsideKind, PersistedInside } from "../../ChunkStore.ts"
import type { HandlerRegistry } from "../../HandlerRegistry.ts"
import { metricLabel } from "../../internal/outcomeWords.ts"
import * as Metrics from "../../Metrics.ts"
import { nameOf, type Outcome, type Outcomes } from "../Outcome.ts"

const handlerOf = (outcome: Outcome | undefined): string => {
  if (outcome?._tag === "Persisted") return outcome.persisted.handler
  const settlement = outcome?._tag === "Settled" ? outcome.settlement : undefined
  return settlement !== undefined && "failure" in settlement ? settlement.failure.handler : ""
}

/** Whether an attempt was charged. */
const isCharged = (outcome: Outcome | undefined): boolean =>
  outcome?._tag === "Settled" &&
  (outcome.settlement._tag === "Retry" || (outcome.settlement._tag === "Bury" && outcome.settlement.charge))

type Labels = Readonly<Record<"namespace" | "schema" | "handler" | "outcome", string>>
interface Counted {
  readonly labels: Labels
  count: number
  failed: number
}

/** Times a handler's run over its share of a batch: once per share, so there is no cost per chunk. */
export const timeRun =
  <A>(handler: string, isGood: (result: A) => boolean) => <E, R>(run: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Clock.monotonicTimeNanos, (began) =>
      Effect.onExit(run, (exit) => {
        // an interrupted run neither succeeded nor failed
        if (Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) return Effect.void
        const outcome = Exit.isSuccess(exit) && isGood(exit.value) ? "succeeded" : "failed"
        return Effect.flatMap(Clock.monotonicTimeNanos, (now) =>
          Metric.update(
            Metrics.of(Metrics.handlerSeconds, { handler, outcome }),
            Number(now - began) / 1e9
          ))
      }))

/**
 * The labels of a chunk's kind are those of its handler. Callers that record can invent kinds; the set of handlers is
 * fixed.
 */
const kindLabels = (registry: HandlerRegistry["Service"], { key: { schemaIdentity }, namespace }: ClaimedChunk) => {
  const handler = registry.find(namespace, schemaIdentity)
  return handler === undefined
    ? { namespace: Metrics.other, schema: Metrics.other }
    : { namespace: handler.namespace, schema: handler.output.identity }
}

/** Counts and times a claim. */
export const measureClaim = Effect.fnUntraced(function*(
  registry: HandlerRegistry["Service"],
  claimed: ReadonlyArray<ClaimedChunk>,
  outcomes: Outcomes,
  /** By the monotonic clock, in nanoseconds. */
  began: bigint
) {
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock
  const now = clock.currentTimeMillisUnsafe()
  const counts = new Map<string, Counted>()
  const lags = new Map<string, Metric.Histogram<number>>()
  const countedAs = (labels: Labels) => {
    const name = `${labels.namespace}/${labels.schema}/${labels.handler}/${labels.outcome}`
    const found = counts.get(name) ?? { labels, count: 0, failed: 0 }
    counts.set(name, found)
    return found
  }
  let before: ClaimedChunk | undefined
  let kind: Counted | undefined
  for (const chunk of claimed) {
    const end = outcomes.get(chunk)
    const outcome = metricLabel(nameOf(end))
    const handler = handlerOf(end)
    // nearly always the same as for the previous chunk
    if (
      kind?.labels.handler !== handler || kind.labels.outcome !== outcome ||
      before?.key.schemaIdentity !== chunk.key.schemaIdentity || before.namespace !== chunk.namespace
    ) {
      kind = countedAs({ ...kindLabels(registry, chunk), handler, outcome })
    }
    before = chunk
    kind.count++
    if (isCharged(end)) kind.failed++
    if (end?._tag !== "Persisted") continue
    let lag = lags.get(handler)
    if (lag === undefined) lags.set(handler, lag = Metrics.of(Metrics.lagSeconds, { handler }))
    lag.updateUnsafe(Math.max(0, now - chunk.recordedAt.epochMilliseconds) / 1000, context)
  }
  Metrics.count(Metrics.claimed, {}, claimed.length, context)
  for (const { count, failed, labels: { outcome, ...kind } } of counts.values()) {
    Metrics.count(Metrics.chunks, { ...kind, outcome }, count, context)
    if (failed > 0) Metrics.count(Metrics.attemptsFailed, kind, failed, context)
  }
  Metrics.cycleSeconds.updateUnsafe(Number(clock.monotonicTimeNanosUnsafe() - began) / 1e9, context)
})

/** The same for chunks that the store persisted by itself for a declared handler. */
export const measureInside = Effect.fnUntraced(function*(
  { namespace, schemaIdentity: schema }: InsideKind,
  handler: string,
  chunks: ReadonlyArray<PersistedInside>,
  /** By the monotonic clock, in nanoseconds. */
  began: bigint
) {
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock
  const now = clock.currentTimeMillisUnsafe()
  const seconds = Number(clock.monotonicTimeNanosUnsafe() - began) / 1e9
  const persisted = chunks.filter(({ objects }) => objects.length > 0).length
  const lag = Metrics.of(Metrics.lagSeconds, { handler })
  for (const { recordedAt } of chunks) lag.updateUnsafe(Math.max(0, now - recordedAt) / 1000, context)
  const kind = { namespace, schema, handler }
  Metrics.count(Metrics.claimed, {}, chunks.length, context)
  Metrics.count(Metrics.inside, { handler }, chunks.length, context)
  Metrics.count(Metrics.chunks, { ...kind, outcome: metricLabel("persisted") }, persisted, context)
  Metrics.count(
    Metrics.chunks,
    { ...kind, outcome: metricLabel("nothingToCreate") },
    chunks.length - persisted,
    context
  )
  Metrics.cycleSeconds.updateUnsafe(seconds, context)
  Metrics.of(Metrics.batchSeconds, { handler }).updateUnsafe(seconds, context)
})
