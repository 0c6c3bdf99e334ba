/**
 * `docs/recording.md` shows what is run here, and says what becomes of it.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, Erasure, Output, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { readFileSync } from "node:fs"
import { expect } from "vitest"
import * as inspect from "../support/inspect.ts"
import * as Postgres from "../support/Postgres.ts"

class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  schema: Schema.Struct({ text: Schema.String })
}) {}

let asked = 0
/** A model that answers at once. */
const askModel = (question: string) =>
  Effect.sync(() => {
    asked++
    const text = JSON.stringify({ text: `${question} On the inside.` })
    return { text, usage: { input: 12, output: 5 } }
  })
const parse = (text: string) => PatientReply.decode(JSON.parse(text), 1)

// docs/recording.md shows the functions from here on
const callOf = (callId: string) => ({
  callId,
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  context: { simulationId: "knee-1" }
})

const replyTo = Effect.fn("replyTo")(function*(callId: string, question: string) {
  const recorder = yield* CallRecorder.CallRecorder
  const { call, ran } = yield* recorder.run(
    callOf(callId),
    Effect.fnUntraced(function*(run) {
      const { text, usage } = yield* askModel(question)
      yield* run.answered({ text, facts: { inputTokens: usage.input, outputTokens: usage.output } })
      return [yield* PatientReply.encode(yield* parse(text))]
    })
  )
  return { outputs: call.outputs, ran }
})

const close = Effect.fn("close")(function*(callId: string, answer: { readonly text: string }) {
  const sql = yield* SqlClient.SqlClient
  const recorder = yield* CallRecorder.CallRecorder
  return yield* sql.withTransaction(Effect.gen(function*() {
    yield* sql`insert into visit (id) values (${callId})`
    return yield* recorder.record({ ...callOf(callId), outputs: [yield* PatientReply.encode(answer)] })
  }))
})

const importAll = Effect.fn("importAll")(function*(answers: ReadonlyMap<string, { readonly text: string }>) {
  const recorder = yield* CallRecorder.CallRecorder
  const calls = yield* Effect.forEach(
    answers,
    ([callId, answer]) =>
      Effect.map(PatientReply.encode(answer), (output) => ({ ...callOf(callId), outputs: [output] }))
  )
  const results = yield* recorder.recordMany(calls)
  return results.flatMap((result) => Result.isFailure(result) ? [result.failure.message] : [])
})

const isThere = Effect.fn("isThere")(function*(callId: string) {
  const recorder = yield* CallRecorder.CallRecorder
  const found = yield* recorder.find(callId)
  return Option.match(found, {
    onNone: () => "not begun, or begun in a process that died before its commit",
    onSome: ({ attempts, error, status }) =>
      `${status}, ${attempts.length} answers${error === undefined ? "" : `: ${error}`}`
  })
})
// to here

const page = readFileSync(new URL("../../docs/recording.md", import.meta.url), "utf8")
const source = readFileSync(new URL(import.meta.url), "utf8")

const application = CallRecorder.layer.pipe(
  Layer.provideMerge(PgStore.layer),
  Layer.provide(Settings.layer({ lease: Duration.seconds(2) })),
  Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer())))
)

layer(application, { excludeTestServices: true, timeout: 60_000 })("docs/recording.md", (it) => {
  it("shows all functions of this file, and no others", () => {
    const blocks = [...page.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, block]) => block ?? "")
    const [, shown = ""] = source.split(/\/\/ docs\/recording.md shows.*\n|\/\/ to here\n/)
    expect(blocks.map((block) => block.trim()).join("\n\n")).toBe(shown.trim())
  })

  it.effect("a call that is run is asked once, and answered from its record from then on", () =>
    Effect.gen(function*() {
      asked = 0
      const first = yield* replyTo("run-1", "Where does it hurt?")
      const again = yield* replyTo("run-1", "Where does it hurt?")
      expect([first.ran, again.ran, asked]).toEqual([true, false, 1])
      expect(again.outputs).toEqual(first.outputs)
      expect(yield* isThere("run-1")).toBe("succeeded, 1 answers")
      expect(yield* isThere("run-2")).toMatch(/^not begun/)
    }))

  it.effect("a call that runs elsewhere fails, and in a transaction no model is asked", () =>
    Effect.gen(function*() {
      const { run } = yield* CallRecorder.CallRecorder
      const sql = yield* SqlClient.SqlClient
      const began = yield* Deferred.make<void>()
      const never = Effect.andThen(Deferred.succeed(began, undefined), Effect.never)
      const fiber = yield* Effect.forkChild(run(callOf("run-3"), never))
      yield* Deferred.await(began)
      expect(yield* Effect.flip(replyTo("run-3", "?"))).toMatchObject({ _tag: "CallRunning" })
      asked = 0
      expect(yield* Effect.flip(sql.withTransaction(replyTo("run-4", "?")))).toMatchObject({ _tag: "RunInTransaction" })
      expect(asked).toBe(0)
      // an interrupted run is given back: it can be run at once
      yield* Fiber.interrupt(fiber)
      expect(yield* replyTo("run-3", "?")).toMatchObject({ ran: true })
    }))

  it.effect("a run that failed, or whose answer did not fit, is kept, and is run again", () =>
    Effect.gen(function*() {
      const { find, run } = yield* CallRecorder.CallRecorder
      const failing = run(callOf("run-5"), Effect.fail("the model is overloaded"))
      expect(yield* Effect.flip(failing)).toBe("the model is overloaded")
      expect(yield* isThere("run-5")).toMatch(/^failed, 0 answers: .*overloaded/)
      const unfit = run(callOf("run-5"), (run) =>
        Effect.andThen(run.answered({ text: "It hurts." }), Effect.fail("not JSON")))
      expect(yield* Effect.flip(unfit)).toBe("not JSON")
      expect(yield* isThere("run-5")).toMatch(/^invalid, 1 answers: .*not JSON/)
      expect(yield* replyTo("run-5", "?")).toMatchObject({ ran: true })
      const { attempts } = Option.getOrThrow(yield* find("run-5"))
      expect(attempts.map(({ outcome, text }) => [outcome, text === "It hurts."])).toEqual([
        ["invalid", true],
        ["succeeded", false]
      ])
    }))

  it.effect("a run whose process died can be run again when its lease has ended", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { run } = yield* CallRecorder.CallRecorder
      const began = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        run(callOf("run-6"), Effect.andThen(Deferred.succeed(began, undefined), Effect.never))
      )
      yield* Deferred.await(began)
      // as if nobody renewed it
      yield* sql`update sluice.service_call set run_until = pg_catalog.now() - interval '1 second' where call_id = 'run-6'`
      expect(yield* replyTo("run-6", "?")).toMatchObject({ ran: true })
      yield* Fiber.interrupt(fiber)
      expect(yield* isThere("run-6")).toMatch(/^succeeded/)
    }))

  it.effect("an answer and the application's row are one commit", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create table visit (id text primary key)`
      expect(yield* close("visit-1", { text: "Goodbye." })).toBe("recorded")
      // the row is there already: neither is written
      expect(Exit.isFailure(yield* Effect.exit(close("visit-1", { text: "Goodbye." })))).toBe(true)
      yield* sql`insert into visit (id) values ('visit-2')`
      expect(Exit.isFailure(yield* Effect.exit(close("visit-2", { text: "Goodbye." })))).toBe(true)
      expect(yield* inspect.call("visit-2")).toEqual(Option.none())
    }))

  it.effect("the same call again is unchanged, another answer is a conflict, and an erased call stays erased", () =>
    Effect.gen(function*() {
      const { record } = yield* CallRecorder.CallRecorder
      const call = (text: string) =>
        Effect.map(PatientReply.encode({ text }), (output) => ({ ...callOf("record-1"), outputs: [output] }))
      expect(yield* record(yield* call("Ouch."))).toBe("recorded")
      expect(yield* record({ ...(yield* call("Ouch.")), priority: 7, details: { said: "later" } })).toBe("unchanged")
      expect(yield* Effect.flip(Effect.flatMap(call("Fine."), record))).toMatchObject({ _tag: "CallConflict" })
      const erasure = yield* Erasure.Erasure
      yield* erasure.erase(Erasure.Subject.Call({ callId: "record-1" }), { because: "asked for", by: "records office" })
      expect(yield* record(yield* call("Ouch."))).toBe("erased")
    }))

  it.effect("of many calls each valid one is recorded, and the others return why not", () =>
    Effect.gen(function*() {
      const problems = yield* importAll(
        new Map([["import-1", { text: "Ouch." }], ["", { text: "Ouch." }], ["import-2", { text: "a\0b" }]])
      )
      expect(problems).toHaveLength(2)
      expect(yield* isThere("import-1")).toMatch(/^succeeded/)
    }))
})
