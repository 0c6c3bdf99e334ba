/**
 * `sluice erase`: says whose and why, tells how much it is before and after, and what is the application's to erase.
 */
import { it } from "@effect/vitest"
import { CallRecorder } from "effect-sluice"
import * as Erasure from "effect-sluice/Erasure"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { describe, expect } from "vitest"
import { Erasures } from "../../src/cli/commands/erase.ts"
import { call, settle } from "../contract/operators/dialogues.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"
import { running } from "./inProcess.ts"

const millers = (callId: string) => ({ ...call(callId), context: { patientId: 4711, note: "a=b" } })

const ward = Effect.fnUntraced(function*() {
  const url = yield* migratedDatabase()
  yield* Effect.gen(function*() {
    yield* CallRecorder.CallRecorder.use((recorder) =>
      recorder.recordMany([millers("done"), millers("dies"), millers("waits"), call("others")])
    )
    yield* settle(({ key: { callId } }) =>
      callId === "done" ? "persisted" : callId === "dies" ? { dead: "exhausted" } : "released"
    )
  }).pipe(Effect.provide(
    CallRecorder.layer.pipe(Layer.provideMerge(Layer.fresh(PgStore.layer)), Layer.provide(Layer.fresh(client(url))))
  ))
  return (...args: ReadonlyArray<string>) => running(...args, "--url", url)
})

const where = ["--where", "context.patientId=4711"]

describe("sluice erase", () => {
  it.live("says how much it would erase, erases it, and records that it did", () =>
    Effect.gen(function*() {
      const sluice = yield* ward()
      expect((yield* sluice("erase", "--list")).stdout).toBe("there were no erasures")
      const much = "3 calls KIND, with 1 outstanding chunk, 1 dead letter and 1 failure\n" +
        "1 row of the application was made of it, and is the application's to erase:\n" +
        "  \"chatlab.Message:message of done\""
      const tried = yield* sluice("erase", ...where, "--dry-run")
      expect(tried.stdout).toBe(much.replace("KIND", "would be erased"))
      const done = yield* sluice("erase", ...where, "--because", "asked for in letter 12", "--by", "records office")
      expect(done.stdout).toBe(much.replace("KIND", "erased"))
      expect((yield* sluice("erase", ...where, "--because", "again")).stdout).toContain("nothing to erase")

      expect((yield* sluice("erase", "--list")).stdout).toMatch(
        /^erasure 1, 20\S+, by records office: asked for in letter 12\n {2}3 calls, 1 outstanding chunk, 1 dead letter, 1 failure; named by the context's patientId$/
      )
      expect((yield* sluice("show", "dies")).stdout).toContain("erased, by erasure 1: see `sluice erase --list`")
      expect((yield* sluice("show", "others")).stdout).not.toContain("erased")
      expect((yield* sluice("status")).stdout).toMatch(/chatlab\/patient-reply +1 +1 +0 +0 +0 +0 +0 +1 /)
    }).pipe(Effect.scoped), 60_000)

  it.live(
    "prints JSON, and by default records the user of the process as the one who asked",
    () =>
      Effect.gen(function*() {
        const sluice = yield* ward()
        const decode = <S extends Schema.Codec<unknown, unknown>>(schema: S, text: string) =>
          Schema.decodeUnknownEffect(Schema.toCodecJson(schema))(JSON.parse(text))
        const { stdout } = yield* sluice("erase", "--call", "waits", "--because", "said twice", "--json")
        expect(yield* decode(Erasure.Erased, stdout)).toEqual(
          { calls: 1, chunks: 1, deadLetters: 0, failures: 0, objects: [] }
        )
        yield* sluice("erase", "--where", "context.note=a=b", "--because", "said twice")
        const { erasures } = yield* decode(Erasures, (yield* sluice("erase", "--list", "--json")).stdout)
        expect(erasures.map(({ by, calls, contextKey, subject }) => ({ by, calls, contextKey, subject }))).toEqual([
          { by: process.env.USER ?? "", calls: 2, contextKey: "note", subject: "context" },
          { by: process.env.USER ?? "", calls: 1, contextKey: null, subject: "call" }
        ])
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("erases nothing without a subject and a reason", () =>
    Effect.gen(function*() {
      const sluice = yield* ward()
      const because = ["--because", "asked for"]
      for (
        const [args, reason] of [
          [[], "say whose data, by one of --call, --correlation and --where"],
          [["--call", "done", ...where], "say whose data, by one of"],
          [["--where", "patientId=4711"], "write context.patientId=4711"],
          [["--where", "context.patientId="], "write context.patientId=4711"],
          // else it would erase nothing, and be content
          [["--where", "context.patientId = 4711"], "write context.patientId=4711"]
        ] as const
      ) {
        expect((yield* sluice("erase", ...args, ...because)).reason).toContain(reason)
      }
      expect((yield* sluice("erase", ...where)).reason).toContain("give the reason, which is stored: --because")
      expect((yield* sluice("erase", ...where, "--because", " ")).reason).toContain("give the reason")
      expect((yield* sluice("erase", "--list")).stdout).toBe("there were no erasures")
    }).pipe(Effect.scoped), 60_000)
})
