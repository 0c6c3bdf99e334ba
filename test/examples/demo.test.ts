/**
 * The demo, run as a user runs it.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import path from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { serverUrl } from "../support/Postgres.ts"
import { dataFolder, demo, hasData, killAll, lastJson, start } from "./runDemo.ts"

type Store = "memory" | "embedded" | "postgres"

/** The flags for a store. */
const on = (store: Store): ReadonlyArray<string> =>
  store === "postgres" ? ["--store", store, "--url", serverUrl(18)] : ["--store", store]

let folder = ""
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "sluice-demo-test-"))
})
afterAll(async () => {
  killAll()
  await rm(folder, { recursive: true, force: true })
})

/** Writes a file of recorded calls. */
const fileOf = async (name: string, content: string | Uint8Array): Promise<string> => {
  const file = path.join(folder, name)
  await writeFile(file, content)
  return file
}

const call = (callId: string, fields: object = {}, output: object = {}) => ({
  callId,
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  context: { simulationId: "knee-1" },
  orderingKey: "knee-1",
  input: { user_message: "Does it hurt?" },
  ...fields,
  outputs: [{
    schema: "schemas.chatlab.standardized_patient.patient-reply",
    version: 1,
    data: {
      image_requested: false,
      messages: [{ role: "patient", content: [{ type: "output_text", text: `Ouch, ${callId}.` }] }]
    },
    ...output
  }]
})
const lines = (...values: ReadonlyArray<object | string>): string =>
  values.map((value) => `${typeof value === "string" ? value : JSON.stringify(value)}\n`).join("")

describe("the samples", () => {
  it("show what became of them; run again, nothing is persisted twice", async () => {
    const data = path.join(folder, "samples")
    const rowsOf = (stdout: string) => /^Rows\n[^]*(?=\n\nEvents)/m.exec(stdout)?.[0]
    const usageOf = (stdout: string) => /^.* tokens in, .*$/m.exec(stdout)?.[0]

    const first = await demo("--data", data)
    expect(first).toMatchObject({ status: 0 })
    expect(first.stdout).toContain("9 recorded now, 0 known already, 1 line refused")
    expect(first.stdout).toMatch(/^ {2}openai\/gpt-5-mini: 9 calls, \d+ tokens in, \d+ out, 0\.\d{4} USD$/m)
    expect(first.stdout).toContain("  2 simulations, 6 messages, 5 metadata, 1 image\n")
    expect(first.stdout).toContain("line 10: not JSON: Unterminated string in JSON at position 120\n")
    // what the declared handler made
    expect(first.stdout).toContain("  1 × tutor.Assessment created\n")
    expect(first.stdout).toContain("  2 × tutor.Remark created\n")
    expect(first.stdout).toContain("1 chunk parked")
    expect(first.stdout).toContain("1 chunk dead")
    expect(first.stdout).toContain("\n7 chunks persisted, once each.\n")
    // the last line is the folder's, which is as long as it is
    const report = first.stdout.trimEnd().split("\n").slice(0, -1)
    expect(Math.max(...report.map((line) => line.length))).toBeLessThanOrEqual(80)

    // what is dead and parked is the report's to tell, not the log's before it
    expect(first.stderr).toBe("calls recorded: 9\nchunks persisted: 7\n")

    const second = await demo("--data", data)
    expect(second).toMatchObject({ status: 0 })
    expect(second.stdout).toContain("0 recorded now, 9 known already, 1 line refused")
    expect(second.stdout).toContain("\nNothing was persisted twice")
    expect(rowsOf(second.stdout)).toBe(rowsOf(first.stdout))
    expect(usageOf(second.stdout)).toBe(usageOf(first.stdout))
  }, 300_000)
})

const here = hasData ? "" : ": SKIPPED, because ../shared/data with them is not here"
describe.skipIf(!hasData)(`recorded dialogues${here}`, () => {
  const input = (name: string) => path.join(dataFolder, `${name}.jsonl`)
  const expected = async (name: string) => {
    const answer: { readonly calls: number } = JSON.parse(
      await readFile(path.join(dataFolder, `${name}.expected.json`), "utf8")
    )
    return { ...answer, ledger: answer.calls, parked: 0, dead: 0, refused: 0, left: 0 }
  }

  // each store with one worker or several; how many there may be on which store is the contract suite's to say
  for (const [store, workers] of [["memory", 8], ["embedded", 2], ["postgres", 1], ["postgres", 8]] as const) {
    it(`become the expected rows: ${store}, ${workers} worker(s)`, async () => {
      const ended = await demo(
        "--input",
        input("mts-dialog-small"),
        "--json",
        "--workers",
        `${workers}`,
        ...on(store)
      )
      expect(lastJson(ended)).toEqual(await expected("mts-dialog-small"))
      expect(ended.stdout.trimEnd().split("\n")).toHaveLength(1)
      expect(ended.status).toBe(0)
    }, 300_000)
  }

  it("all of them, interrupted in the middle and run again: nothing lost, nothing twice", async () => {
    const args = ["--input", input("mts-dialog"), "--json", "--data", path.join(folder, "interrupted")]
    const running = start("chatlab/main.ts", args)
    await running.said(/chunks persisted: \d+ so far/)

    const other = await demo("--data", path.join(folder, "interrupted"))
    expect(other.status).toBe(1)
    expect(other.stdout + other.stderr).toContain("one process at a time")

    running.process.kill("SIGINT")
    expect(await running.ended).toMatchObject({ status: 130, stdout: "" })
    const again = await demo(...args)
    expect(lastJson(again)).toEqual(await expected("mts-dialog"))
    expect(again.stderr).not.toContain("chunks persisted: 6802")
  }, 120_000)
})

describe("odd files", () => {
  const none = {
    simulations: 0,
    calls: 0,
    messages: 0,
    metadata: 0,
    by_schema: {},
    ledger: 0,
    parked: 0,
    dead: 0,
    left: 0
  }
  const run = async (content: string | Uint8Array, store: Store = "memory") => {
    const ended = await demo("--json", "--input", await fileOf("odd.jsonl", content), ...on(store))
    return { ...ended, answer: lastJson(ended) }
  }

  it("a line that is no call is reported with its number and reason; the rest goes on; the status is 1", async () => {
    const bytes = Buffer.concat([
      Buffer.from(
        lines("{", call("a"), "[]", call("b", { callId: "" }), call("c", { namespace: "a.b" }), "", call("d"))
      ),
      Buffer.from([0x22, 0xff, 0x22, 0x0a]),
      Buffer.from(lines(call("e", {}, { data: { text: "a\0b" } })))
    ])
    const { answer, status, stderr } = await run(bytes)
    expect(status).toBe(1)
    expect(answer).toMatchObject({ calls: 2, messages: 2, ledger: 2, refused: 6, left: 0 })
    expect(stderr.split("\n").filter((line) => line.startsWith("line "))).toEqual([
      expect.stringMatching(/^line 1: not JSON: ./),
      expect.stringMatching(/^line 3: not a call: ./),
      expect.stringMatching(/^line 4: .*callId is empty/),
      expect.stringMatching(/^line 5: .*namespace may hold only/),
      expect.stringMatching(/^line 8: not UTF-8/),
      expect.stringMatching(/^line 9: .*u0000/)
    ])
  }, 300_000)

  it("of calls with one id the same is the same call, another is refused", async () => {
    const { answer, status, stderr } = await run(lines(call("a"), call("a"), call("a", { input: "other" }), call("b")))
    expect(status).toBe(1)
    expect(stderr).toMatch(/line 3: .*recorded already with other content/)
    expect(answer).toMatchObject({ calls: 2, messages: 2, ledger: 2, refused: 1, left: 0 })
  }, 300_000)

  it(
    "an unknown kind and a newer version are parked; what does not decode, or has no simulation, is dead; others are not held up",
    async () => {
      const own = (name: string) => ({ context: { simulationId: name }, orderingKey: name })
      const odd = lines(
        call("unknown", own("unknown"), { schema: "schemas.chatlab.standardized_patient.patient-farewell" }),
        call("elsewhere", { ...own("elsewhere"), namespace: "ward" }),
        call("undecodable", own("undecodable"), { data: { messages: "none" } }),
        call("newer", own("newer"), { version: 2 }),
        call("nowhere", { context: {}, orderingKey: "nowhere" }),
        call("number", { context: { simulationId: 7 }, orderingKey: "number" }),
        call("good", own("good")),
        // behind a dead one of its own simulation
        call("behind", own("undecodable"))
      )
      const { answer, status } = await run(odd, "embedded")
      expect(status).toBe(0)
      expect(answer).toMatchObject({
        ...none,
        simulations: 1,
        calls: 8,
        messages: 1,
        ledger: 1,
        parked: 3,
        dead: 3,
        left: 1,
        by_schema: { "patient-reply": 1 },
        refused: 0
      })
    },
    300_000
  )

  it("the ends of lines, a byte order mark and a missing last newline do not matter", async () => {
    const { answer, status } = await run(`\uFEFF${lines(call("a"), "", call("b")).replaceAll("\n", "\r\n")}`.trimEnd())
    expect(status).toBe(0)
    expect(answer).toMatchObject({ calls: 2, messages: 2, refused: 0 })
  }, 300_000)

  it("an empty one is done at once", async () => {
    expect(await run("")).toMatchObject({ status: 0, answer: { ...none, refused: 0 } })
  }, 300_000)
})

describe("what cannot be done is said on stderr, with status 1; wrong flags have status 2", () => {
  for (
    const [status, args, message] of [
      [1, ["--input", "no-such-file.jsonl"], "no-such-file.jsonl"],
      [1, ["--store", "postgres", "--url", "postgres://nobody@127.0.0.1:1/none"], "ECONNREFUSED"],
      [2, ["--workers", "0"], "workers"],
      [2, ["--store", "nosuch"], "nosuch"],
      [2, ["--nonsense"], "--nonsense"],
      [2, ["--store", "memory", "--data", "folder"], "keeps nothing"],
      [2, ["--url", "postgres://127.0.0.1/none"], "--store postgres"]
    ] as const
  ) {
    it(args.join(" "), async () => {
      const ended = await demo(...args, "--json")
      expect(ended).toMatchObject({ status, stdout: "" })
      expect(ended.stderr).toContain(message)
      expect(ended.stderr).not.toContain("USAGE")
    }, 300_000)
  }

  it("--help is no mistake", async () => {
    const ended = await demo("--help")
    expect(ended).toMatchObject({ status: 0, stderr: "" })
    expect(ended.stdout).toContain("--workers")
  }, 300_000)
})
