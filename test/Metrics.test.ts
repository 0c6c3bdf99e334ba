/**
 * What is counted equals what is in the tables; traces lead from a persisted chunk back to the request that made its call.
 */
import { it } from "@effect/vitest"
import { CallRecorder, DeadLetters, Drain, HandlerPlugin, HandlerRegistry, Metrics, ServiceCall } from "effect-sluice"
import { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import { describe, expect } from "vitest"
import { queue, seqKey } from "../src/store/memory/rows.ts"
import { application, Note, note, record, registry } from "./support/clinic.ts"
import { drainWith, untilEmpty } from "./support/drain.ts"

/** A metric's figures by one of its labels: a counter's count, a histogram's number of observations. */
const figures = (id: string, label = "outcome") =>
  Effect.map(Metric.snapshot, (all) => {
    const sums: Record<string, number> = {}
    for (const one of all.filter((one) => one.id === id)) {
      if (one.type !== "Counter" && one.type !== "Histogram") continue
      const name = one.attributes?.[label] ?? ""
      sums[name] = (sums[name] ?? 0) + Number(one.state.count)
    }
    return Object.fromEntries(Object.entries(sums).filter(([, count]) => count > 0))
  })
const isolated = Effect.provideServiceEffect(Metric.MetricRegistry, Effect.sync((): Metric.MetricRegistry => new Map()))

describe("metrics", () => {
  it.effect("count what became of each chunk", () =>
    Effect.gen(function*() {
      yield* record(
        note("a"),
        note("b"),
        note("nothing", { trouble: "nothing", early: true }),
        note("fails", { trouble: "fails" }),
        note("rejects", { trouble: "rejects" }),
        note("dead", { text: 1 }),
        note("elsewhere", {}, { namespace: "dental" })
      )
      yield* untilEmpty
      yield* (yield* DeadLetters.DeadLetters).redrive({})
      yield* untilEmpty
      expect(yield* figures(Metrics.chunks.id)).toEqual({
        persisted: 2,
        nothing_to_create: 1,
        retried: 1,
        dead: 4,
        parked: 1
      })
      // those whose handler ran and failed
      expect(yield* figures(Metrics.attemptsFailed.id, "handler")).toEqual({ "clinic/note": 3 })
      expect(yield* figures(Metrics.claimed.id)).toEqual({ "": 9 })
      expect(yield* figures(Metrics.redriven.id)).toEqual({ "": 2 })
      expect(yield* figures(Metrics.lagSeconds.id, "handler")).toEqual({ "clinic/note": 3 })
      const runs = yield* figures(Metrics.handlerSeconds.id)
      const batches = yield* figures(Metrics.batchSeconds.id, "handler")
      expect((runs["succeeded"] ?? 0) + (runs["failed"] ?? 0)).toBe(batches["clinic/note"])
      expect(runs["succeeded"]).toBeGreaterThan(0)
      expect(runs["failed"]).toBeGreaterThan(0)
      expect(yield* figures(Metrics.cycleSeconds.id)).toEqual({ "": 2 })
    }).pipe(Effect.provide(application()), isolated))

  it.effect("count what was done before, given back, and lost", () =>
    Effect.gen(function*() {
      const db = yield* MemoryDatabase
      yield* record(note("before"))
      const row = yield* db.use((access) => access.values(queue)[0])
      yield* untilEmpty
      // as a backup brings it back, or a hand
      if (row !== undefined) yield* db.use((access) => access.set(queue, seqKey(row.seq), row))
      yield* untilEmpty
      yield* record(note("back", { trouble: "hangs" }))
      const stopped = yield* Effect.forkChild(Drain.Drain.use((drain) => drain.cycle))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(stopped)
      yield* Effect.provide(
        Drain.Drain.use((drain) => drain.cycle),
        drainWith(() => ({ settle: () => Effect.succeed([]) }))
      )
        .pipe(Effect.forkChild, Effect.tap(TestClock.adjust("1 minute")), Effect.flatMap(Fiber.join))
      expect(yield* figures(Metrics.chunks.id)).toEqual({ persisted: 1, already_persisted: 1, released: 1, lost: 1 })
    }).pipe(Effect.provide(application()), isolated))

  it.effect("count what was given to the recorder", () =>
    Effect.gen(function*() {
      const { recordMany } = yield* CallRecorder.CallRecorder
      yield* recordMany([note("a"), note("b")])
      yield* recordMany([note("a"), note("b", { text: "another" }), note("c", {}, { namespace: "" }), note("d")])
      expect(yield* figures(Metrics.calls.id)).toEqual({ recorded: 3, unchanged: 1, conflict: 1, refused: 1 })
    }).pipe(Effect.provide(application()), isolated))

  it.effect("have each outcome's series from the start, and no label or value but those that are named", () =>
    Effect.gen(function*() {
      yield* Effect.void.pipe(Effect.provide(Layer.fresh(Drain.layer)))
      const begun = (yield* Metric.snapshot).filter((one) => one.id === Metrics.chunks.id)
      expect(new Set(begun.map((one) => one.attributes?.["outcome"])))
        .toEqual(new Set(Metrics.values[Metrics.chunks.id]))
      yield* record(note("a"), note("fails", { trouble: "fails" }), note("other", {}, { namespace: "dental" }))
      yield* untilEmpty
      for (const { attributes = {}, id } of yield* Metric.snapshot) {
        expect({ id, labels: Object.keys(attributes).sort() })
          .toEqual({ id, labels: [...Metrics.labels[id] ?? []].sort() })
        const value = attributes["outcome"]
        if (value !== undefined) expect(Metrics.values[id]).toContain(value)
      }
      // those that begin at 0 are the ones that count
      const clinic = (yield* Metric.snapshot).filter((one) =>
        one.id === Metrics.chunks.id && one.attributes?.["namespace"] === "clinic"
      )
      expect(clinic).toHaveLength(begun.filter((one) => one.attributes?.["namespace"] === "clinic").length)
    }).pipe(Effect.provide(application()), isolated))
})

describe("what others record", () => {
  const kinds = 20_000
  const schemaOf = (index: number) => `schemas.tenant-${index}.ward.note`
  const tenants = (fields: (index: number) => Partial<ServiceCall.ServiceCall>) =>
    Effect.gen(function*() {
      const { recordMany } = yield* CallRecorder.CallRecorder
      yield* recordMany(
        Array.from({ length: kinds }, (_, index) =>
          note(`call-${index}`, {}, { namespace: `tenant-${index}`, ...fields(index) }))
      )
      yield* untilEmpty
    })
  /** Runs with a registry of its own. Gives back how many series there are in it, and what a scrape of them comes to. */
  const scraped = <E, R>(run: Effect.Effect<unknown, E, R>) => {
    const registry: Metric.MetricRegistry = new Map()
    return run.pipe(
      Effect.andThen(PrometheusMetrics.format()),
      Effect.map((page) => ({ series: registry.size, bytes: page.length, page })),
      Effect.provideService(Metric.MetricRegistry, registry)
    )
  }
  const alone = scraped(Effect.andThen(record(note("a")), untilEmpty).pipe(Effect.provide(application())))

  it.effect("of kinds without a handler adds neither series nor log lines without end", () =>
    Effect.gen(function*() {
      const lines: Array<unknown> = []
      const keep = Logger.layer([Logger.map(Logger.formatStructured, (line) => void lines.push(line))])
      const before = yield* alone
      const after = yield* scraped(
        tenants((index) => ({ outputs: [{ schema: schemaOf(index), version: 1, data: null }] })).pipe(
          Effect.provide(application({ batchSize: 1000 }))
        )
      ).pipe(Effect.provide(keep))
      expect(after.page).toContain(
        `sluice_chunks_total{namespace="other",schema="other",handler="",outcome="parked"} ${kinds}`
      )
      // the recorder counts by the first 100 namespaces
      expect(after.series).toBeLessThan(before.series + 150)
      expect(after.bytes).toBeLessThan(before.bytes + 20_000)
      expect(lines.length).toBeGreaterThan(0)
      expect(lines.length).toBeLessThan(40)
      expect(JSON.stringify(lines.at(-1))).toContain("others")
    }), 60_000)

  it.effect("of namespaces that a handler of core serves, makes no series either", () =>
    Effect.gen(function*() {
      const before = yield* alone
      const after = yield* scraped(
        tenants(() => ({})).pipe(Effect.provide(application({ batchSize: 1000 }, registry({}, "core"))))
      )
      const { identity } = Note
      expect(after.page).toContain(
        `sluice_chunks_total{namespace="core",schema="${identity}",handler="core/note",outcome="persisted"} ${kinds}`
      )
      expect(after.series).toBeLessThan(before.series + 150)
    }), 60_000)
})

describe("traces", () => {
  /** Keeps the spans there are. */
  const collecting = (spans: Array<Tracer.Span>) =>
    Layer.effect(
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
  const eventsOf = (span: Tracer.Span | undefined): ReadonlyArray<Readonly<Record<string, unknown>>> | undefined =>
    // that is what a native span is
    (span as Tracer.NativeSpan | undefined)?.events.map(([name, , attributes]) => ({ name, ...attributes }))
  const member = (callId: string) => ({
    "sluice.call_id": callId,
    "sluice.namespace": "clinic",
    "sluice.schema": "schemas.clinic.ward.note",
    "sluice.handler": "clinic/note",
    "sluice.attempt": 1
  })

  it.effect("a persist span links to the request that made the call, and stands in its batch's", () => {
    const spans: Array<Tracer.Span> = []
    return Effect.gen(function*() {
      yield* Effect.withSpan(record(note("a", {}, { callId: "a" })), "request")
      yield* untilEmpty
      const request = spans.find((span) => span.name === "request")
      const persist = spans.find((span) => span.name === "Handler.persist")
      expect(persist?.links[0]?.span).toMatchObject({ traceId: request?.traceId, spanId: request?.spanId })
      expect(Object.fromEntries(persist?.attributes ?? [])).toMatchObject(member("a"))
      const batch = spans.find((span) => span.name === "Drain.batch")
      expect(persist?.parent).toMatchObject({ _tag: "Some", value: { spanId: batch?.spanId } })
      expect(eventsOf(batch)).toEqual([{ name: "chunk", ...member("a") }])
    }).pipe(Effect.provide(application()), Effect.provide(collecting(spans)), isolated)
  })

  it.effect("one run for many stands in its batch's span, with its members and a link to each of their requests", () => {
    const spans: Array<Tracer.Span> = []
    const together = HandlerPlugin.layer("clinic", Note, {
      persistMany: (inputs: ReadonlyArray<unknown>) => Effect.succeed(inputs.map(() => []))
    })
    return Effect.gen(function*() {
      yield* Effect.withSpan(record(note("a")), "request a")
      yield* Effect.withSpan(record(note("b")), "request b")
      yield* record(note("alone"))
      yield* untilEmpty
      const batch = spans.find((span) => span.name === "Drain.batch")
      const requests = ["request a", "request b"].map((name) => spans.find((span) => span.name === name)?.spanId)
      expect(batch?.links.map(({ span }) => span.spanId)).toEqual(requests)
      expect(batch?.links.map(({ attributes }) => attributes)).toEqual([member("a"), member("b")])
      expect(eventsOf(batch)?.map((event) => event["sluice.call_id"])).toEqual(["a", "b", "alone"])
    }).pipe(
      Effect.provide(application({}, HandlerRegistry.layer().pipe(Layer.provide(together)))),
      Effect.provide(collecting(spans)),
      isolated
    )
  })

  it.effect("a call without a trace has no link, and its chunk is still named in its batch's span", () => {
    const spans: Array<Tracer.Span> = []
    return Effect.gen(function*() {
      yield* record(note("a"))
      yield* untilEmpty
      const batch = spans.find((span) => span.name === "Drain.batch")
      expect(batch?.links).toEqual([])
      expect(eventsOf(batch)).toEqual([{ name: "chunk", ...member("a") }])
      expect(spans.map((span) => span.name)).not.toContain("Handler.persist")
    }).pipe(Effect.provide(application()), Effect.provide(collecting(spans)), isolated)
  })
})
