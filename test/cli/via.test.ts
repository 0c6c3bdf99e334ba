/**
 * `sluice record --via`: the results of providers' batches become calls, and what is bad or missing is told with its line.
 * And what `sluice record` makes of files that are no lines of calls.
 */
import { it } from "@effect/vitest"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { describe, expect } from "vitest"
import { call } from "../contract/operators/dialogues.ts"
import * as inspect from "../support/inspect.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"
import { running } from "./inProcess.ts"

const batches = path.join(import.meta.dirname, "../../examples/batches")
const at = (file: string) => path.join(batches, file)

/** A database, a folder, and the command there. */
const place = Effect.fnUntraced(function*() {
  const url = yield* migratedDatabase()
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sluice-via-"))),
    (made) => Effect.sync(() => fs.rmSync(made, { recursive: true }))
  )
  const file = (name: string, content: string) => {
    const whole = path.join(folder, name)
    fs.writeFileSync(whole, content)
    return whole
  }
  const viewOf = (callId: string) =>
    Effect.map(inspect.call(callId), Option.getOrThrow).pipe(
      Effect.provide(Layer.fresh(PgStore.layer).pipe(Layer.provide(Layer.fresh(client(url)))))
    )
  return { folder, file, viewOf, record: (...args: ReadonlyArray<string>) => running("record", ...args, "--url", url) }
})

const told = (stderr: string) => stderr.split("\n").filter((line) => /^(line|element|no line) /.test(line))

describe("sluice record --via", () => {
  it.live(
    "records the results of an OpenAI batch; a second run records only what is missing",
    () =>
      Effect.gen(function*() {
        const { record, viewOf } = yield* place()
        const args = [at("openai-output.jsonl"), "--via", at("openai.ts"), "--requests", at("openai-batch.jsonl")]
        const { status, stderr, stdout } = yield* record(...args)
        expect(told(stderr)).toEqual([
          "line 2: status 500",
          expect.stringMatching(/^line 3: not JSON: /),
          "no line answers \"back-1\", line 4 of the requests"
        ])
        expect([status, stdout]).toEqual([1, "2 recorded, 0 known already, 2 refused, 1 missing"])
        const view = yield* viewOf("knee-2")
        expect(view).toMatchObject({
          context: { dialogueId: "knee-2" },
          facts: { provider: "openai", responseModel: "gpt-4o-mini-2024-07-18", inputTokens: 41, outputTokens: 21 },
          outputs: [
            { part: "locking", data: { code: "locking", text: "The knee locks." } },
            { part: "locking#2", data: { code: "locking", text: 7 } }
          ]
        })
        expect((yield* record(...args)).stdout).toBe("0 recorded, 2 known already, 2 refused, 1 missing")
        expect(JSON.parse((yield* record(...args, "--json")).stdout)).toEqual({
          recorded: 0,
          unchanged: 2,
          refused: [{ line: 2, reason: "status 500" }, { line: 3, reason: expect.stringMatching(/^not JSON/) }],
          skipped: 0,
          missing: [{ line: 4, key: "back-1" }]
        })
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("records the results of an Anthropic batch; an answer that is no JSON is kept", () =>
    Effect.gen(function*() {
      const { record, viewOf } = yield* place()
      const { stderr, stdout } = yield* record(
        at("anthropic-results.jsonl"),
        "--via",
        at("anthropic.ts"),
        "--requests",
        at("anthropic-requests.jsonl")
      )
      expect(told(stderr)).toEqual(["line 2: the request was expired", "line 4: max_tokens is too small"])
      expect(stdout).toBe("2 recorded, 0 known already, 2 refused")
      expect(yield* viewOf("back-1")).toMatchObject({
        facts: { inputTokens: 41, cachedInputTokens: 10 },
        outputs: [{ part: "#0", data: "I cannot say that from one sentence." }]
      })
    }).pipe(Effect.scoped), 60_000)

  it.live(
    "refuses the lines that a mapper fails at, each with its reason, and records the others",
    () =>
      Effect.gen(function*() {
        const { file, record } = yield* place()
        const mapper = file(
          "mapper.ts",
          `
        import { LineMapper } from "effect-sluice"
        import * as Effect from "effect/Effect"
        const call = ${JSON.stringify(call("x"))}
        export default LineMapper.make(({ json, key, number }) => {
          if (json.what === "throws") throw new Error("no bed")
          if (json.what === "fails") return Effect.fail(new Error("no ward"))
          if (json.what === "skips") return LineMapper.skip
          if (json.what === "nothing") return undefined
          if (json.what === "rejects") return Promise.reject(new Error("no nurse"))
          if (json.what === "awaits") return Promise.resolve({ ...call, callId: key })
          return Effect.succeed({ ...call, callId: json.what === "long" ? "x".repeat(65) : key })
        }, { key: (json) => typeof json.id === "number" ? json.id : json.id.trim() })`
        )
        const whats = ["throws", "good", "fails", "skips", "nothing", "long", "good"]
        const others = [
          "{}",
          "",
          "[]",
          `{"id":7}`,
          ...["rejects", "awaits"].map((what) => `{"id":"${what}","what":"${what}"}`)
        ]
        const lines = file(
          "lines.jsonl",
          [...whats.map((what, index) => JSON.stringify({ id: `call-${index}`, what })), ...others].join("\n")
        )
        const { status, stderr, stdout } = yield* record(lines, "--via", mapper)
        expect(told(stderr)).toEqual([
          "line 1: cannot be mapped: no bed",
          "line 3: cannot be mapped: no ward",
          "line 5: the mapper returns no call for it",
          expect.stringMatching(/^line 6: .*has 65 characters/),
          expect.stringMatching(/^line 8: its key cannot be read: /),
          expect.stringMatching(/^line 10: its key cannot be read: /),
          "line 11: its key is 7, which is not a string",
          "line 12: cannot be mapped: no nurse"
        ])
        expect([status, stdout]).toEqual([1, "3 recorded, 0 known already, 8 refused, 1 skipped"])
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "says what is wrong with the module, or with the requests, before anything is recorded",
    () =>
      Effect.gen(function*() {
        const { file, record } = yield* place()
        const lines = file("lines.jsonl", "")
        const reasonOf = (...args: ReadonlyArray<string>) => Effect.map(record(lines, ...args), ({ reason }) => reason)
        expect(yield* reasonOf("--via", "nowhere.ts")).toBe("--via: there is no file nowhere.ts")
        expect(yield* reasonOf("--via", file("none.ts", "export default 7"))).toMatch(
          /none\.ts must export default what LineMapper\.make returns$/
        )
        expect(yield* reasonOf("--via", file("throws.ts", "throw new Error(\"no bed\")"))).toMatch(
          /throws\.ts does not load: no bed/
        )
        expect(yield* reasonOf("--requests", lines)).toBe("--requests needs --via")
        const twice = file("twice.jsonl", `{"custom_id": "a"}\n{"custom_id": "a"}\n`)
        expect(yield* reasonOf("--via", at("openai.ts"), "--requests", twice)).toMatch(
          /twice\.jsonl, line 2: has the key "a" of line 1$/
        )
        expect((yield* running("record", "-", "--via", at("openai.ts"), "--requests", "-")).reason).toBe(
          "standard input can be the results or the requests, and not both"
        )
        const compiled = file(
          "compiled.cjs",
          `exports.__esModule = true\nexports.default = { "~effect-sluice/LineMapper": "mapper", map: () => {}, key: () => {} }`
        )
        expect(yield* reasonOf("--via", compiled)).toBe("")
        const bad = file("bad.jsonl", `{"custom_id": 7}\n`)
        expect(yield* reasonOf("--via", at("openai.ts"), "--requests", bad)).toMatch(/bad\.jsonl, line 1: has no key/)
      }).pipe(Effect.scoped),
    60_000
  )
})

describe("sluice record", () => {
  it.live("takes a file that is one JSON list, however it is written", () =>
    Effect.gen(function*() {
      const { file, record } = yield* place()
      const list = [call("a"), { callId: 7 }, call("b")]
      const pretty = yield* record(file("pretty.json", JSON.stringify(list, undefined, 2)))
      expect(told(pretty.stderr)).toEqual([expect.stringMatching(/^element 2: not a call: /)])
      expect([pretty.status, pretty.stdout]).toEqual([1, "2 recorded, 0 known already, 1 refused"])
      expect((yield* record(file("line.json", `\ufeff${JSON.stringify([call("a"), call("c")])}`))).stdout).toBe(
        "1 recorded, 1 known already, 0 refused"
      )
      expect((yield* record(file("empty.json", " []"))).stdout).toBe("0 recorded, 0 known already, 0 refused")
      expect((yield* record(file("one.json", JSON.stringify(call("d"), undefined, "\t")))).stdout).toBe(
        "1 recorded, 0 known already, 0 refused"
      )
      const cut = yield* record(file("cut.json", JSON.stringify(list).slice(0, -1)))
      expect(cut.reason).toMatch(/cut\.json is neither a call a line nor one JSON list: /)
    }).pipe(Effect.scoped), 60_000)

  it.live("refuses an element that is nested too deep, and no other", () =>
    Effect.gen(function*() {
      const { file, record } = yield* place()
      const deep = JSON.stringify(call("deep")).replace(
        /"data":/,
        `"data":${"[".repeat(20_000)}${"]".repeat(20_000)},"rest":`
      )
      const list = file("list.json", `[${JSON.stringify(call("a"))},${deep},${JSON.stringify(call("b"))}]`)
      const { stderr, stdout } = yield* record(list)
      expect(told(stderr)).toEqual([expect.stringMatching(/^element 2: .* is nested more than 512 deep/)])
      expect(stdout).toBe("2 recorded, 0 known already, 1 refused")
    }).pipe(Effect.scoped), 60_000)

  it.live("says what to do with UTF-16", () =>
    Effect.gen(function*() {
      const { folder, record } = yield* place()
      const file = path.join(folder, "calls.jsonl")
      fs.writeFileSync(file, `\ufeff${JSON.stringify(call("a"))}\r\n`, "utf16le")
      expect((yield* record(file)).reason).toBe(
        `${file} is UTF-16, as PowerShell writes it: make it UTF-8, for example by iconv -f UTF-16 -t UTF-8`
      )
    }).pipe(Effect.scoped), 60_000)

  it.live("says what to do with a folder", () =>
    Effect.gen(function*() {
      const { folder, record } = yield* place()
      expect((yield* record(`${folder}/`)).reason).toBe(
        `${folder}/ is a folder: name a file of it, or give all: cat ${folder}/*.jsonl | sluice record -`
      )
    }).pipe(Effect.scoped), 60_000)
})
