/**
 * What the log is told: a structured line for each end that matters, none for a success, and never what was recorded.
 */
import { it } from "@effect/vitest"
import { Drain, DrainWorker, Metrics, Redaction } from "effect-sluice"
import { ChunkStoreError } from "effect-sluice/ChunkStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, note, record } from "./support/clinic.ts"
import { away, drainWith } from "./support/drain.ts"
import * as inspect from "./support/inspect.ts"

interface Line {
  readonly level: string
  readonly message: unknown
  readonly annotations: Readonly<Record<string, unknown>>
}

/** Runs with a log that is kept. */
const logged = <A, E, R>(run: (lines: ReadonlyArray<Line>) => Effect.Effect<A, E, R>) => {
  const lines: Array<Line> = []
  const keep = Logger.map(Logger.formatStructured, ({ annotations, level, message }) => {
    lines.push({ level, message, annotations })
  })
  return Effect.provide(run(lines), Logger.layer([keep]))
}
const untilEmpty = Drain.Drain.use((drain) => drain.untilEmpty)
const isolated = Effect.provideServiceEffect(Metric.MetricRegistry, Effect.sync((): Metric.MetricRegistry => new Map()))

describe("the log", () => {
  it.effect("has no line for what went well", () =>
    logged((lines) =>
      Effect.gen(function*() {
        yield* record(note("a"), note("b", { trouble: "nothing" }))
        yield* untilEmpty
        expect(lines).toEqual([])
      })
    ).pipe(Effect.provide(application())))

  it.effect("is told what the application's redact lets through, and nothing where that fails", () =>
    Effect.gen(function*() {
      const messageWith = (redact: Redaction.Redact) =>
        logged((lines) =>
          Effect.gen(function*() {
            yield* record(note("a", { trouble: "fails" }))
            yield* untilEmpty
            return lines[0]?.annotations["sluice.message"]
          })
        ).pipe(Effect.provide(application()), Effect.provide(Redaction.layer(redact)))
      expect(yield* messageWith((json) => json)).toContain("at attempt 1")
      expect(yield* messageWith((json) => typeof json === "string" ? json.replaceAll(/\d/g, "#") : json)).toContain(
        "at attempt #"
      )
      const failing = () => {
        throw new Error("no")
      }
      expect(yield* messageWith(failing)).toBe("(hidden: the redact function failed)")
    }))

  it.effect("has one for each chunk that died or failed, and one for each kind that is parked", () =>
    logged((lines) =>
      Effect.gen(function*() {
        yield* record(
          note("secret-1", { trouble: "fails", text: "the patient's secret" }),
          note("secret-2", { trouble: "rejects", text: "the patient's secret" }),
          note("secret-3", { text: ["the patient's secret"] }),
          note("elsewhere-1", { text: "the patient's secret" }, { namespace: "dental" }),
          note("elsewhere-2", { text: "the patient's secret" }, { namespace: "dental" })
        )
        yield* untilEmpty
        const schema = "schemas.clinic.ward.note"
        expect([...lines].sort((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)).toEqual([
          {
            level: "INFO",
            message: "a chunk failed and will be retried",
            annotations: {
              "sluice.call_id": "secret-1",
              "sluice.namespace": "clinic",
              "sluice.schema": schema,
              "sluice.handler": "clinic/note",
              "sluice.failure": "failed",
              "sluice.error": "Error",
              // what the call says as well is left out
              "sluice.message": "it … at attempt 1",
              "sluice.attempt": 1,
              "sluice.delay": "10s"
            }
          },
          {
            level: "INFO",
            message: "chunks are parked",
            annotations: {
              "sluice.namespace": "dental",
              "sluice.schema": schema,
              "sluice.reason": "no-handler",
              "sluice.chunks": 2
            }
          },
          {
            level: "WARN",
            message: "a chunk is dead",
            annotations: expect.objectContaining({ "sluice.call_id": "secret-2", "sluice.reason": "rejected" })
          },
          {
            level: "WARN",
            message: "a chunk is dead",
            annotations: expect.objectContaining({ "sluice.call_id": "secret-3", "sluice.reason": "undecodable" })
          }
        ])
        expect(JSON.stringify(lines)).not.toContain("patient")
      })
    ).pipe(Effect.provide(application())))

  it.effect("tells of an outage once, and of its end once", () =>
    logged((lines) =>
      Effect.gen(function*() {
        let isAway = true
        const drain = drainWith((store) => ({
          claim: (request) => isAway ? Effect.fail(away("claim")) : store.claim(request)
        }))
        yield* Layer.build(DrainWorker.layer({ schedule: Schedule.spaced("1 second") }).pipe(Layer.provide(drain)))
        yield* TestClock.adjust("1 minute")
        const [first, ...more] = lines
        expect(more).toEqual([])
        expect(first).toMatchObject({ level: "WARN", message: expect.stringContaining("the server is restarting") })
        expect(first?.message).not.toContain("\n")
        isAway = false
        yield* TestClock.adjust("1 minute")
        expect(lines.slice(1)).toMatchObject([{ level: "INFO", message: "the database answers again" }])
      })
    ).pipe(Effect.scoped, Effect.provide(application({ inFlight: 3 }))))

  it.effect("tells once of what does not pass by itself, as long as that is the same", () =>
    logged((lines) =>
      Effect.gen(function*() {
        let reason = "database \"ward\" is not currently accepting connections"
        const refuse = () => new ChunkStoreError({ operation: "claim", transient: false, code: "55000", reason })
        const drain = drainWith(() => ({ claim: () => Effect.suspend(() => Effect.fail(refuse())) }))
        yield* Layer.build(DrainWorker.layer({ schedule: Schedule.spaced("1 second") }).pipe(Layer.provide(drain)))
        yield* TestClock.adjust("1 minute")
        reason = "permission denied for table chunk_queue"
        yield* TestClock.adjust("1 minute")
        expect(lines.map(({ level, message }) => [level, String(message).replace(/^.*continues: /, "")])).toEqual([
          ["ERROR", expect.stringContaining("is not currently accepting connections")],
          ["ERROR", expect.stringContaining("permission denied")]
        ])
      })
    ).pipe(Effect.scoped, Effect.provide(application({ inFlight: 3 }))))
})

describe("metrics", () => {
  it.effect("count what a claim has committed that is cut short afterwards", () =>
    Effect.gen(function*() {
      yield* record(note("a"), note("b", { trouble: "fails", early: true }))
      // what persisted is committed when the settlement of the other fails
      const drain = drainWith(() => ({ settle: () => Effect.fail(away("settle")) }))
      yield* Effect.provide(Effect.flip(Drain.Drain.use((drain) => drain.cycle)), drain).pipe(Effect.scoped)
      const snapshot = yield* Metric.snapshot
      const ends = snapshot.filter((one) => one.id === Metrics.chunks.id).map((one) => [
        one.attributes?.["outcome"],
        one.type === "Counter" ? Number(one.state.count) : Number.NaN
      ])
      expect(Object.fromEntries(ends.filter(([, count]) => count !== 0))).toEqual({ persisted: 1, released: 1 })
      expect((yield* inspect.status)[0]).toMatchObject({ persisted: 1 })
    }).pipe(Effect.provide(application({ lease: Duration.seconds(1) })), isolated))
})
