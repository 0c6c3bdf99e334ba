/**
 * `redact` of `sluice.config.ts`: what a person is shown of recorded JSON, and of errors that quote it, as text and as JSON.
 */
import { it } from "@effect/vitest"
import { CallRecorder } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { describe, expect } from "vitest"
import { call, settle } from "../contract/operators/dialogues.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"
import { runIn } from "./inProcess.ts"

const dies = {
  ...call("dies", { context: { patient: "Miller" } }, { data: { text: "Miller hurts." } })
}

/** A folder with these settings, and the command there, on a database with a call that died and one that is stuck. */
const place = Effect.fnUntraced(function*(redact: string) {
  const url = yield* migratedDatabase()
  yield* Effect.gen(function*() {
    const recorder = yield* CallRecorder.CallRecorder
    yield* recorder.recordMany([dies, { ...dies, callId: "waits" }])
    yield* settle(({ key }) =>
      key.callId === "dies" ? { dead: "exhausted", message: "no bed for Miller" } : { retry: "1 hour" }
    )
    yield* Effect.ignore(
      recorder.run(
        { ...dies, callId: "fails" },
        (run) => Effect.andThen(run.answered({ text: "Miller says" }), Effect.fail("Miller is unknown"))
      )
    )
  }).pipe(Effect.provide(
    CallRecorder.layer.pipe(Layer.provideMerge(Layer.fresh(PgStore.layer)), Layer.provide(Layer.fresh(client(url))))
  ))
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sluice-redact-"))),
    (made) => Effect.sync(() => fs.rmSync(made, { recursive: true }))
  )
  fs.writeFileSync(
    path.join(folder, "sluice.config.mjs"),
    `export default { DATABASE_URL: "${url}", redact: ${redact} }`
  )
  return (...args: ReadonlyArray<string>) => Effect.promise(() => runIn(folder, ...args))
})

const shown = [
  ["show", "dies"],
  ["show", "fails"],
  ["show", "waits"],
  ["dead", "show", "dies"],
  ["dead", "list"],
  ["stuck"],
  ["doctor"],
  ["invalid", "list"],
  ["invalid", "show", "fails"]
]

describe("redact", () => {
  it.live("hides a name wherever a command shows what is recorded", () =>
    Effect.gen(function*() {
      const sluice = yield* place(`(json) => JSON.parse(JSON.stringify(json).replaceAll("Miller", "M."))`)
      for (const args of shown) {
        for (const json of [[], ["--json"]]) {
          const { status, stdout } = yield* sluice(...args, ...json)
          expect({ args, status, names: stdout.includes("Miller") }).toEqual({
            args,
            status: args[0] === "doctor" ? 1 : 0,
            names: false
          })
        }
      }
      expect((yield* sluice("show", "dies", "--json")).stdout).toContain("\"text\":\"M. hurts.\"")
      expect((yield* sluice("show", "fails", "--json")).stdout).toContain("M. says")
      expect((yield* sluice("dead", "show", "dies")).stdout).toContain("no bed for M.")
    }).pipe(Effect.scoped))

  it.live(
    "shows everything if it is not set, and nothing of a value for which it throws or returns no JSON",
    () =>
      Effect.gen(function*() {
        const open = yield* place("undefined")
        for (const args of shown.slice(0, 2)) expect((yield* open(...args)).stdout).toContain("Miller")
        const throwing = "() => { throw new Error(\"no\") }"
        for (const failing of [throwing, `async ${throwing}`, "() => undefined", "(json) => new Map([[json, json]])"]) {
          const sluice = yield* place(failing)
          for (const args of failing === throwing ? shown : shown.slice(0, 4)) {
            const { stdout } = yield* sluice(...args, "--json")
            expect({ args, names: stdout.includes("Miller") }).toEqual({ args, names: false })
            // of the doctor's sentences the end is cut off
            expect(stdout).toContain("(hidden: the redact function fail")
          }
        }
      }).pipe(Effect.scoped)
  )

  it.live("must be a function", () =>
    Effect.gen(function*() {
      const sluice = yield* place("\"Miller\"")
      const { status, stderr } = yield* sluice("status")
      expect([status, stderr]).toEqual([1, expect.stringContaining("redact is not a function: write (json) => json")])
    }).pipe(Effect.scoped))
})
