/**
 * Makes the spans of batches and handlers. A batch's span has an event for each chunk, and, for a `persistMany`, a link
 * to the request of each call. A handler that runs for one chunk has its own span with that link.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"
import { traceOf } from "../../internal/trace.ts"
import type { Prepared } from "../prepare.ts"

/** The attributes of a chunk in a trace. Never its payload. */
export const attributesOf = ({ chunk: { attempts, key, namespace }, handler }: Prepared) => ({
  "sluice.call_id": key.callId,
  "sluice.namespace": namespace,
  "sluice.schema": key.schemaIdentity,
  ...(key.part === "" ? {} : { "sluice.part": key.part }),
  "sluice.handler": handler.name,
  "sluice.attempt": attempts + 1
})

/** A link to the request that made the chunk's call, if it was recorded within one. */
export const linksOf = (one: Prepared): ReadonlyArray<Tracer.SpanLink> => {
  // a trace that was not recorded by Sluice may be invalid
  const trace = traceOf(one.chunk.call.trace)
  return trace === undefined ? [] : [{ span: Tracer.externalSpan(trace), attributes: attributesOf(one) }]
}

/** Without the place in this file at which the span was opened, which tells nobody anything, and takes 20 microseconds. */
const noFrame = { captureStackTrace: false }

/** Runs a handler in a span linked to the request that made the call, for calls that were recorded within one. */
export const traced = <A, E, R>(one: Prepared, run: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  one.chunk.call.trace === undefined
    ? run
    : Effect.withSpan(run, "Handler.persist", { ...noFrame, attributes: attributesOf(one), links: linksOf(one) })

/** Runs a batch in its span. Without a tracer no event is added for its members. */
export const inBatchSpan = (batch: ReadonlyArray<Prepared>) => <A, E, R>(run: Effect.Effect<A, E, R>) =>
  Effect.contextWith((context: Context.Context<R>) => {
    const handler = batch[0]?.handler
    const attributes = { "sluice.handler": handler?.name ?? "", "sluice.chunks": batch.length }
    if (!context.mapUnsafe.has(Tracer.TracerKey)) {
      return Effect.withSpan(run, "Drain.batch", { ...noFrame, attributes })
    }
    const members = Effect.gen(function*() {
      const span = yield* Effect.currentSpan
      const now = yield* Clock.currentTimeNanos
      for (const one of batch) span.event("chunk", now, attributesOf(one))
    })
    return Effect.withSpan(Effect.andThen(Effect.ignore(members), run), "Drain.batch", {
      ...noFrame,
      attributes,
      links: handler?.run._tag === "Many" ? batch.flatMap(linksOf) : []
    })
  })
