/**
 * What is recorded under a name that is almost that of a handler: `handlers` and the doctor ask whether it is misspelt. And
 * which workers read a recorded version.
 */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { runAt } from "../support/Postgres.ts"
import { handlers, run } from "./inProcess.ts"
import { newDatabase } from "./workplace.ts"

const reply = "schemas.chatlab.standardized_patient.patient-reply"
const calls = [
  ["a", "clinic", reply.replace("reply", "repyl"), 1],
  ["b", "clinci", reply, 1],
  ["c", "clinic", "schemas.chatlab.standardized_patient.x-ray", 1],
  ["d", "clinic", reply, 7]
] as const

describe("a recorded name that is close to a handler's", { timeout: 120_000 }, () => {
  let url = ""
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-similar-"))
  afterAll(() => fs.rmSync(folder, { recursive: true }))
  beforeAll(async () => {
    url = await newDatabase()
    const file = path.join(folder, "calls.jsonl")
    const lines = calls.map(([callId, namespace, schema, version]) =>
      JSON.stringify({
        callId,
        namespace,
        service: "services.chatlab.standardized_patient.generate-reply",
        outputs: [{ schema, version, data: { text: "My knee" } }]
      })
    )
    fs.writeFileSync(file, `${lines.join("\n")}\n`)
    expect((await run("record", file, "--url", url)).status).toBe(0)
  })

  it("is shown beside it by `handlers`, and others are not", async () => {
    const { stdout } = await run("handlers", ...handlers, "--url", url)
    const question = `there is a handler for clinic/${reply}: is one of the two names misspelt?`
    expect(stdout).toContain(`clinic/${calls[0][2]}: 1 outstanding\n    ${question}\n`)
    expect(stdout).toContain(`clinci/${reply}: 1 outstanding\n    ${question}\n`)
    expect(stdout).toMatch(/x-ray: 1 outstanding(\n {2}\S|$)/)
    const kinds = JSON.parse((await run("handlers", ...handlers, "--url", url, "--json")).stdout).kinds
    expect(kinds.map(({ similar }: { readonly similar: unknown }) => similar)).toEqual([
      `clinic/${reply}`,
      null,
      `clinic/${reply}`,
      null
    ])
  })

  it("is asked about by the doctor, beside what a worker serves", async () => {
    await run("drain", ...handlers, "--url", url)
    const serves = JSON.stringify([{ namespace: "clinic", schemaIdentity: reply, version: 1 }])
    await Effect.runPromise(runAt(url, `insert into sluice.worker (id, serves) values ('ward/7/x', '${serves}')`))
    const { stdout } = await run("doctor", "--url", url)
    expect(stdout).toContain(
      `Is one of these names misspelt: clinci/${reply} or clinic/${reply}, which a worker serves;`
    )
    expect(stdout).not.toMatch(/x-ray or/)
  })

  it("a worker that names no version counts as one that reads all, as for claims", async () => {
    const none = JSON.stringify([{ namespace: "clinic", schemaIdentity: reply }])
    await Effect.runPromise(
      runAt(url, "delete from sluice.worker", `insert into sluice.worker (id, serves) values ('ward/8/y', '${none}')`)
    )
    const { stdout } = await run("handlers", ...handlers, "--url", url)
    expect(stdout).toMatch(/patient-reply: version 7, here 1\n {4}worker ward\/8\/y reads it$/m)
  })
})
