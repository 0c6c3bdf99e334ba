/**
 * What a claim came to, as metrics: once for a claim, by kind and outcome, so that it costs a chunk next to nothing.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { ClaimedChunk } from "../ChunkStore.ts"
import * as Metrics from "../Metrics.ts"
import type { Outcome } from "./execute.ts"

const outcomeOf = (outcome: Outcome | undefined): string => {
  if (outcome === undefined) return "released"
  if (outcome._tag === "Lost") return "lost"
  if (outcome._tag === "Persisted") return outcome.persisted.objects.length > 0 ? "persisted" : "nothing_to_create"
  return {
    Retry: "retried",
    Park: "parked",
    Bury: "dead",
    Already: "already_persisted",
    Release: "released"
  }[outcome.settlement._tag]
}

const handlerOf = (outcome: Outcome | undefined): string => {
  if (outcome?._tag === "Persisted") return outcome.persisted.handler
  const settlement = outcome?._tag === "Settled" ? outcome.settlement : undefined
  return settlement !== undefined && "failure" in settlement ? settlement.failure.handler : ""
}

/** Counts and times a claim. */
export const measure = Effect.fnUntraced(function*(
  claimed: ReadonlyArray<ClaimedChunk>,
  outcomes: ReadonlyMap<ClaimedChunk, Outcome>,
  began: number
) {
  const context = yield* Effect.context<never>()
  const now = yield* Clock.currentTimeMillis
  const counts = new Map<string, { readonly labels: Readonly<Record<string, string>>; count: number }>()
  const lags = new Map<string, Metric.Histogram<number>>()
  for (const chunk of claimed) {
    const end = outcomes.get(chunk)
    const outcome = outcomeOf(end)
    const handler = handlerOf(end)
    const { key: { schemaIdentity: schema }, namespace } = chunk
    const kind = `${namespace}/${schema}/${handler}/${outcome}`
    const found = counts.get(kind)
    if (found === undefined) counts.set(kind, { labels: { namespace, schema, handler, outcome }, count: 1 })
    else found.count++
    if (end?._tag !== "Persisted") continue
    let lag = lags.get(handler)
    if (lag === undefined) lags.set(handler, lag = Metric.withAttributes(Metrics.lagSeconds, { handler }))
    lag.updateUnsafe(Math.max(0, now - chunk.recordedAt.epochMilliseconds) / 1000, context)
  }
  Metrics.count(Metrics.claimed, {}, claimed.length, context)
  for (const { count, labels } of counts.values()) Metrics.count(Metrics.chunks, labels, count, context)
  Metrics.cycleSeconds.updateUnsafe((now - began) / 1000, context)
})
