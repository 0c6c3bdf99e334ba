/**
 * `sluice record --via` is broken before and after statements by which it records the results of a provider's batch. The
 * same command, given again, ends with the tables of an undisturbed run: each answer once, and its tokens too.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { run } from "../cli/inProcess.ts"
import { type Breakable, breakable, cut, type Statement, terminate } from "./breakable.ts"

/** More than one statement takes: there are two at least. */
const answers = 210
const mapper = path.join(import.meta.dirname, "../../examples/batches/openai.ts")

const answer = (n: number) => ({
  id: `chatcmpl-${n}`,
  model: "gpt-4o-mini",
  choices: [{
    finish_reason: "stop",
    message: {
      content: JSON.stringify({ findings: [{ code: "pain", text: `It hurts, ${n}` }, { code: "locking", text: n }] })
    }
  }],
  usage: { prompt_tokens: 40, completion_tokens: n }
})

/** The results of the batch. One request failed. */
const results = Array.from({ length: answers + 1 }, (_, n) =>
  JSON.stringify({
    custom_id: `knee-${n}`,
    response: n === 100 ? { status_code: 500, body: {} } : { status_code: 200, body: answer(n) }
  })).join("\n")

/** All that must be the same in the end. */
const picture = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return {
    calls: yield* sql`
      select call_id, status, context, facts, array_to_string(outputs, ',') as outputs
      from sluice.service_call order by call_id`,
    queue: yield* sql`select call_id, part, state, position, bytes, attempts from sluice.chunk_queue order by seq`,
    usage: yield* sql`
      select sum(calls)::int as calls, sum(input_tokens)::int as input, sum(output_tokens)::int as output
      from sluice.usage_entry`
  }
})
const empty = SqlClient.SqlClient.use((sql) =>
  sql`truncate sluice.service_call, sluice.call_attempt, sluice.usage_entry, sluice.chunk_queue`
)

let database: Breakable
let folder = ""
let statements: ReadonlyArray<Statement> = []
let clean: unknown

const record = (url: string) =>
  run("record", path.join(folder, "results.jsonl"), "--via", mapper, "--json", "--url", url)
const cutRecord = () => record(database.proxied)

beforeAll(async () => {
  // hints are sent and received beside the recording: without them its statements have an order
  vi.stubEnv("SLUICE_NOTIFY", "false")
  vi.stubEnv("SLUICE_LISTEN", "false")
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-batches-"))
  fs.writeFileSync(path.join(folder, "results.jsonl"), results)
  database = await breakable()
  await run("migrate", "--url", database.url)
  statements = await database.statementsOf(cutRecord)
  clean = await database.direct(picture)
})
afterAll(async () => {
  vi.unstubAllEnvs()
  fs.rmSync(folder, { recursive: true })
  await database.close()
})

describe("record --via", () => {
  const records = ({ text }: Statement) => text.includes("insert into \"sluice\".service_call")

  it("undisturbed records by several statements, each a commit, and counts each answer's tokens", () => {
    const begins = statements.findIndex(records)
    expect(begins).toBeGreaterThan(0)
    expect(statements.slice(begins, begins + 2).map(records)).toEqual([true, true])
    const output = answers * (answers + 1) / 2 - 100
    expect(clean).toMatchObject({ usage: [{ calls: answers, input: 40 * answers, output }] })
  })

  it.each([["is cut at both ends", cut], ["is terminated", terminate]] as const)(
    "whose connection %s at one of them, given again, records what is missing",
    async (_, strike) => {
      const begins = statements.findIndex(records)
      for (const index of [begins, begins + 1]) {
        for (const side of ["before", "after"] as const) {
          const name = `${side} statement ${index + 1}: ${statements[index]?.text.slice(0, 200)}`
          await database.direct(empty)
          const broken = await database.breakAt({ number: index + 1, side, name }, strike, cutRecord)
          expect(broken.stderr + broken.reason, name).not.toMatch(/^\s+at /m)
          const again = JSON.parse((await record(database.url)).stdout)
          expect(again, name).toMatchObject({ refused: [{ line: 101, reason: "status 500" }] })
          expect([name, again.recorded + again.unchanged]).toEqual([name, answers])
          expect(await database.direct(picture), name).toEqual(clean)
        }
      }
    },
    600_000
  )
})
