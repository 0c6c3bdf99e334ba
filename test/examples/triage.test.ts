/**
 * The triage service, run as it is against a model server of the test's own.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, Settings } from "effect-sluice"
import * as Answer from "effect-sluice/ai"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { afterAll, expect } from "vitest"
import { startFakeServer } from "../ai/fakeServer.ts"
import { freePort } from "../support/freePort.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"
import { killAll, start } from "./runDemo.ts"

afterAll(killAll)

/** The address of the database the service works on. */
class Url extends Context.Service<Url, string>()("test/Url") {}

const database = CallRecorder.layer.pipe(
  Layer.provide(PgStore.layer),
  Layer.provide(Settings.layer()),
  Layer.provideMerge(Layer.unwrap(Effect.map(Url, (url) => client(url)))),
  Layer.provideMerge(Layer.effect(Url, migratedDatabase()))
)

layer(database, { excludeTestServices: true, timeout: 60_000 })("examples/triage", (it) => {
  it.effect("answers once, writes the note in the background, and tells who listens", () =>
    Effect.gen(function*() {
      // the first answer does not fit: it is asked again
      const models = yield* Effect.acquireRelease(
        Effect.promise(() =>
          startFakeServer(
            { text: JSON.stringify({ urgency: "at once", reason: "Hot and swollen", question: null }) },
            { text: JSON.stringify({ urgency: "soon", reason: "Hot and swollen", question: "Any fever?" }) },
            { status: 429 }
          )
        ),
        (server) => Effect.promise(() => server.close())
      )
      const port = yield* Effect.promise(freePort)
      const running = start("triage/main.ts", [], {
        DATABASE_URL: yield* Url,
        OPENAI_BASE_URL: `${models.url}/v1`,
        OPENAI_API_KEY: "none",
        PORT: String(port)
      })
      yield* Effect.promise(() => running.said(/Listening/))
      const address = `http://127.0.0.1:${port}`
      const send = (id: string, text: string) =>
        Effect.promise(async () => {
          const body = JSON.stringify({ id, text })
          const headers = { "content-type": "application/json" }
          const response = await fetch(`${address}/messages`, { method: "POST", headers, body })
          return { status: response.status, body: (await response.json()) as unknown }
        })
      const reader = yield* Effect.promise(async () => {
        const response = await fetch(`${address}/events`)
        return response.body!.pipeThrough(new TextDecoderStream()).getReader()
      })
      const said = "My knee is hot, call me at 0151 2345678"
      const answer = { urgency: "soon", question: "Any fever?" }
      expect(yield* send("m-1", said)).toEqual({ status: 200, body: { ...answer, paid: true } })
      const told = yield* Effect.promise(async () => {
        let text = ""
        while (!text.includes("data:")) text += (await reader.read()).value ?? ""
        await reader.cancel()
        return text
      })
      expect(told).toMatch(/data: .*"m-1"/)
      const sql = yield* SqlClient.SqlClient
      expect(yield* sql`select message_id, urgency from triage_note`).toEqual([{ message_id: "m-1", urgency: "soon" }])

      // sent again it is not paid again; something else under its id is refused
      expect(yield* send("m-1", said)).toEqual({ status: 200, body: { ...answer, paid: false } })
      expect(yield* send("m-1", "Never mind")).toMatchObject({ status: 409 })
      expect(models.asked).toHaveLength(2)
      // a limit of the provider is an answer of ours, and the next message is not held up by it
      expect(yield* send("m-2", "My other knee")).toMatchObject({ status: 502 })

      const call = { namespace: "triage", service: "services.triage.messages.triage", key: "m-1" }
      const recorder = yield* CallRecorder.CallRecorder
      const found = Option.getOrThrow(yield* recorder.find(yield* Answer.callIdOf(call)))
      expect(found.call).toMatchObject({
        input: { text: "My knee is hot, call me at [telephone]" },
        facts: { provider: "openai", requestModel: "gpt-5-mini", inputTokens: 100, outputTokens: 20, attempts: 2 }
      })
      running.process.kill("SIGTERM")
      expect((yield* Effect.promise(() => running.ended)).status).toBe(0)
    }).pipe(Effect.scoped), 60_000)
})
