/**
 * The programs a user would copy, run as they are.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, ServiceCall } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { createServer } from "node:http"
import { afterAll, expect } from "vitest"
import { Messages } from "../../examples/chatlab/Messages.ts"
import * as repositories from "../../examples/chatlab/repositories.ts"
import { startProxy } from "../faults/proxy.ts"
import { freePort } from "../support/freePort.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"
import { killAll, start } from "./runDemo.ts"

afterAll(killAll)

/** The address of the database the programs work on. */
class Url extends Context.Service<Url, string>()("test/Url") {}

const phaseOne = Layer.mergeAll(CallRecorder.layer, repositories.layerPg).pipe(
  Layer.provide(PgStore.layer),
  Layer.provideMerge(Layer.unwrap(Effect.map(Url, (url) => client(url)))),
  Layer.provideMerge(Layer.effect(Url, migratedDatabase()))
)

const reply = (n: number): ServiceCall.ServiceCall => ({
  callId: `call-${n}`,
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  context: { simulationId: "knee" },
  orderingKey: "knee",
  outputs: [{
    schema: "schemas.chatlab.standardized_patient.patient-reply",
    version: 1,
    data: {
      image_requested: n === 2,
      messages: [{ role: "patient", content: [{ type: "output_text", text: `${n}` }] }]
    }
  }]
})

layer(phaseOne, { excludeTestServices: true, timeout: 60_000 })("observed-drain.ts", (it) => {
  it.effect("reports what it does to a collector", () =>
    Effect.gen(function*() {
      const received = new Map<string, string>()
      const collector = createServer((request, response) => {
        let body = ""
        request.setEncoding("utf8").on("data", (text: string) => body += text).on("end", () => {
          received.set(request.url ?? "", (received.get(request.url ?? "") ?? "") + body)
          response.setHeader("content-type", "application/json").end("{}")
        })
      })
      const port = yield* Effect.callback<number>((resume) => {
        collector.listen(0, "127.0.0.1", () => {
          const address = collector.address()
          resume(Effect.succeed(address !== null && typeof address === "object" ? address.port : 0))
        })
      })
      const recorder = yield* CallRecorder.CallRecorder
      yield* recorder.record(reply(1))
      const running = start("observed-drain.ts", [], {
        DATABASE_URL: yield* Url,
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`
      })
      const messages = yield* Messages
      yield* untilIt(messages.list, (rows) => rows.length === 1)
      // a busy machine may persist before the gauges have asked the database once
      const isSampled = Effect.sync(() => received.get("/v1/metrics")?.includes("sluice_queue_chunks") === true)
      yield* untilIt(isSampled, (sampled) => sampled)
      running.process.kill("SIGTERM")
      expect((yield* Effect.promise(() => running.ended)).status).toBe(0)
      expect(received.get("/v1/traces")).toContain("Drain.batch")
      for (const name of ["sluice_chunks_total", "sluice_queue_chunks"]) {
        expect(received.get("/v1/metrics")).toContain(name)
      }
      yield* Effect.promise(() => new Promise((resolve) => collector.close(resolve)))
    }))
})

layer(phaseOne, { excludeTestServices: true, timeout: 60_000 })("scheduled-drain.ts", (it) => {
  it.effect("drains what is there and what comes, and ends with 0 when it is told to", () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      const messages = yield* Messages
      const sql = yield* SqlClient.SqlClient
      const until = (count: number) => untilIt(messages.list, (rows) => rows.length === count)

      yield* recorder.recordMany([1, 2, 3].map(reply))
      const running = start("scheduled-drain.ts", [], { DATABASE_URL: yield* Url })
      yield* until(3)
      yield* recorder.record(reply(4))
      yield* until(4)
      expect((yield* messages.list).map(({ content }) => content)).toEqual(["1", "2", "3", "4"])
      yield* untilIt(sql`select message_id from chatlab.media`, (rows) => rows.length === 1)

      running.process.kill("SIGTERM")
      const { status, stdout } = yield* Effect.promise(() => running.ended)
      expect(stdout).toContain("draining")
      expect(status).toBe(0)
      // it said goodbye
      expect(yield* sql`select id from sluice.worker`).toEqual([])
    }))

  /** The program before a database that takes a statement and does not answer any more. */
  const hanging = Effect.fnUntraced(function*(settings: { readonly [name: string]: string }) {
    const url = new URL(yield* Url)
    const proxy = yield* Effect.acquireRelease(
      Effect.promise(() => startProxy(Number(url.port))),
      (it) => Effect.promise(() => it.close())
    )
    url.port = String(proxy.port)
    const running = start("scheduled-drain.ts", [], { ...settings, DATABASE_URL: url.href })
    yield* Effect.promise(() => running.said(/draining/))
    yield* Effect.promise(() =>
      new Promise<void>((resolve) =>
        proxy.watch(() => {
          resolve()
          return new Promise(() => {})
        })
      )
    )
    return running
  })

  it.effect("ends at once when it is told a second time", () =>
    Effect.gen(function*() {
      const running = yield* hanging({ SLUICE_GRACE_PERIOD: "1 hour" })
      running.process.kill("SIGINT")
      running.process.kill("SIGTERM")
      // two signals sent at once may be heard in either order
      expect([130, 143]).toContain((yield* Effect.promise(() => running.ended)).status)
    }).pipe(Effect.scoped))

  it.effect("ends when its grace period is over, though the database hangs", () =>
    Effect.gen(function*() {
      const running = yield* hanging({ SLUICE_GRACE_PERIOD: "100 millis" })
      running.process.kill("SIGTERM")
      expect([0, 143]).toContain((yield* Effect.promise(() => running.ended)).status)
      // less than the grace period that is the default
    }).pipe(Effect.scoped))
})

layer(phaseOne, { excludeTestServices: true, timeout: 60_000 })("live-events.ts", (it) => {
  /** The events a browser is given, until there are so many. */
  const listen = (port: number, count: number, id?: string) =>
    Effect.promise(async () => {
      const response = await fetch(`http://127.0.0.1:${port}/events`, {
        headers: id === undefined ? {} : { "last-event-id": id }
      })
      const events: Array<{ readonly id: string; readonly data: unknown }> = []
      let text = ""
      const reading = (async () => {
        for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
          text += chunk
          for (const [whole, id = "", data = ""] of text.matchAll(/^id: (.*)\ndata: (.*)\n\n/gm)) {
            text = text.replace(whole, "")
            events.push({ id, data: JSON.parse(data) })
          }
          if (events.length >= count) break
        }
        return events
      })()
      return Effect.promise(() => reading)
    })

  it.effect(
    "each instance tells of all, and whoever comes back to another misses nothing",
    () =>
      Effect.gen(function*() {
        const ports = yield* Effect.all([Effect.promise(freePort), Effect.promise(freePort)])
        const url = yield* Url
        const servers = yield* Effect.forEach(ports, (port) => {
          const running = start("live-events.ts", [], { DATABASE_URL: url, PORT: String(port) })
          return Effect.as(Effect.promise(() => running.said(/Listening/)), running)
        })
        const [, other = 0] = ports
        const heard = yield* Effect.forEach(ports, (port) => listen(port, 2))
        const recorder = yield* CallRecorder.CallRecorder
        yield* recorder.recordMany([1, 2].map(reply))
        const worker = start("scheduled-drain.ts", [], { DATABASE_URL: url })
        const [first, second] = yield* Effect.all(heard.map((events) => events))
        expect(first).toHaveLength(2)
        expect(second).toEqual(first)
        // it was away for the second
        const again = yield* yield* listen(other, 1, first?.[0]?.id)
        expect(again).toEqual(first?.slice(1))
        for (const { process } of [worker, ...servers]) process.kill("SIGTERM")
      })
  )
})
