/**
 * What the command says of declared handlers before anything is claimed.
 */
import * as Effect from "effect/Effect"
import path from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import { tables } from "../support/declared.ts"
import { asRole, runAt } from "../support/Postgres.ts"
import { run } from "./inProcess.ts"
import { newDatabase } from "./workplace.ts"

const module = ["--handlers", path.join(import.meta.dirname, "labFindings.ts")]

describe("declared handlers", { timeout: 120_000 }, () => {
  let url = ""
  beforeAll(async () => {
    url = await newDatabase()
    expect((await run("migrate", "--url", url)).reason).toBe("")
  })

  const check = (at = url) => run("drain", "--check", "--url", at, ...module)

  it("are told as the SQL that they become, or as what their table lacks", async () => {
    const before = await run("handlers", "--url", url, ...module)
    expect(before.stdout).toContain("table finding does not fit its declaration: there is no such table")
    expect(await check()).toMatchObject({ failed: true, reason: expect.stringContaining("there is no such table") })

    await Effect.runPromise(runAt(url, ...tables))
    const { stdout } = await run("handlers", "--url", url, ...module)
    expect(stdout).toContain("insert into finding (\"call_id\"")
    expect(stdout).toContain("on conflict (\"patient\") do update set \"note\" = excluded.\"note\"")
    const json = JSON.parse((await run("handlers", "--json", "--url", url, ...module)).stdout)
    expect(json.handlers).toMatchObject([
      { declared: { problem: null, statement: expect.stringContaining("insert into finding") } },
      { declared: { problem: null, statement: expect.stringContaining("insert into lab_order") } },
      { declared: { problem: null, statement: expect.stringContaining("insert into card") } }
    ])
    expect(await check()).toMatchObject({
      failed: false,
      stdout: expect.stringContaining("loaded and built 3 handlers")
    })
  })

  it("a right that the role lacks is named", () =>
    Effect.runPromise(Effect.scoped(Effect.gen(function*() {
      const { role, url: address } = yield* asRole(url, "drainer")
      yield* runAt(
        url,
        `grant usage on schema sluice to ${role}`,
        `grant all on all tables in schema sluice to ${role}`
      )
      const refused = yield* Effect.promise(() => check(address))
      expect(refused.reason).toContain("this role has no right to insert into column \"call_id\"")
      yield* runAt(url, `grant insert, select on finding, lab_order, card to ${role}`)
      const overwrites = yield* Effect.promise(() => check(address))
      expect(overwrites.reason).toContain("handler clinic/card")
      expect(overwrites.reason).toContain("this role has no right to update column \"note\"")
      yield* runAt(url, `grant update on card to ${role}`)
      expect(yield* Effect.promise(() => check(address))).toMatchObject({ failed: false })
    }))))
})
