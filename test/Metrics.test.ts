/**
 * What is counted equals what is in the tables; traces lead from a persisted chunk back to the request that made its call.
 */
import { it } from "@effect/vitest"
import { DeadLetters, Drain, Metrics } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Tracer from "effect/Tracer"
import { describe, expect } from "vitest"
import { application, note, record } from "./support/clinic.ts"

/** A counter's values by their label `outcome`. */
const outcomes = (id: string) =>
  Effect.map(Metric.snapshot, (all) =>
    Object.fromEntries(
      all.filter((one) => one.id === id).map((one) => [
        one.attributes?.["outcome"] ?? "",
        one.type === "Counter" ? Number(one.state.count) : Number.NaN
      ])
    ))
const isolated = Effect.provideServiceEffect(Metric.MetricRegistry, Effect.sync((): Metric.MetricRegistry => new Map()))

describe("metrics", () => {
  it.effect("count what became of each chunk", () =>
    Effect.gen(function*() {
      yield* record(
        note("a"),
        note("b"),
        note("nothing", { trouble: "nothing", early: true }),
        note("fails", { trouble: "fails" }),
        note("dead", { text: 1 })
      )
      const drain = yield* Drain
      yield* drain.untilEmpty
      yield* (yield* DeadLetters).redrive({})
      yield* drain.untilEmpty
      expect(yield* outcomes(Metrics.chunks.id)).toEqual({
        persisted: 2,
        nothing_to_create: 1,
        retried: 1,
        dead: 2
      })
      expect(yield* outcomes(Metrics.calls.id)).toEqual({ recorded: 5 })
      expect(yield* outcomes(Metrics.redriven.id)).toEqual({ "": 1 })
      const ids = new Set((yield* Metric.snapshot).map((one) => one.id))
      for (const id of [Metrics.cycleSeconds.id, Metrics.batchSeconds.id, Metrics.lagSeconds.id]) {
        expect(ids).toContain(id)
      }
      // never an id among the labels
      const labels = (yield* Metric.snapshot).flatMap((one) => Object.keys(one.attributes ?? {}))
      expect([...new Set(labels)].filter((label) => !["namespace", "schema", "handler", "outcome"].includes(label)))
        .toEqual([])
    }).pipe(Effect.provide(application()), isolated))
})

describe("traces", () => {
  it.effect("a persist span links to the request that made the call", () => {
    const spans: Array<Tracer.Span> = []
    const collecting = Layer.effect(
      Tracer.Tracer,
      Effect.map(Effect.tracer, (native) =>
        Tracer.make({
          span(options) {
            const span = native.span(options)
            spans.push(span)
            return span
          }
        }))
    )
    return Effect.gen(function*() {
      yield* Effect.withSpan(record(note("a", {}, { callId: "a" })), "request")
      yield* Effect.flatMap(Drain, (drain) => drain.untilEmpty)
      const request = spans.find((span) => span.name === "request")
      const persist = spans.find((span) => span.name === "Handler.persist")
      expect(persist?.links[0]?.span).toMatchObject({ traceId: request?.traceId, spanId: request?.spanId })
      expect(Object.fromEntries(persist?.attributes ?? [])).toMatchObject({
        "sluice.call_id": "a",
        "sluice.schema": "schemas.clinic.ward.note",
        "sluice.handler": "clinic/note",
        "sluice.attempt": 1
      })
      const batch = spans.find((span) => span.name === "Drain.batch")
      expect(persist?.parent).toMatchObject({ _tag: "Some", value: { spanId: batch?.spanId } })
    }).pipe(Effect.provide(application()), Effect.provide(collecting), isolated)
  })

  it.effect("without a request nothing is made up", () => {
    const names: Array<string> = []
    const collecting = Layer.effect(
      Tracer.Tracer,
      Effect.map(Effect.tracer, (native) =>
        Tracer.make({
          span(options) {
            names.push(options.name)
            return native.span(options)
          }
        }))
    )
    return Effect.gen(function*() {
      yield* record(note("a"))
      yield* Effect.flatMap(Drain, (drain) => drain.untilEmpty)
      expect(names).toContain("Drain.batch")
      expect(names).not.toContain("Handler.persist")
    }).pipe(Effect.provide(application()), Effect.provide(collecting), isolated)
  })
})
