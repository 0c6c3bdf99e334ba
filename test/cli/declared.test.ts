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
    // a deployment's script stops here, as it does at the doctor
    expect(before.status).toBe(1)
    expect(await check()).toMatchObject({ failed: true, reason: expect.stringContaining("there is no such table") })

    await Effect.runPromise(runAt(url, ...tables))
    const { status, stdout } = await run("handlers", "--url", url, ...module)
    expect(status).toBe(0)
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

  it("are refused if they name a field that the answer does not have", async () => {
    const misspelt = ["--handlers", path.join(import.meta.dirname, "misspelt.ts")]
    const words = "the declared handler of schemas.clinic.laboratory.card: " +
      "column \"note\" takes output.noet, and the answer has no field \"noet\": is \"note\" meant?"
    for (const command of [["drain", "--check"], ["handlers"]]) {
      const { reason, status } = await run(...command, "--url", url, ...misspelt)
      expect({ reason, status }).toEqual({ reason: expect.stringContaining(words), status: 1 })
    }
  })

  it("are shown with how their answers were persisted, and what the database refuses", async () => {
    const uses = (inside: number) =>
      JSON.stringify([
        { handler: "clinic/finding", inside, claimed: { key: 2, version: 1 }, refusal: null, unfit: null },
        {
          handler: "clinic/card",
          inside: 0,
          claimed: { refused: 4 },
          refusal: "not together with others (P0001)",
          unfit: null
        },
        { handler: "clinic/order", inside: 0, claimed: {}, refusal: null, unfit: null }
      ])
    await Effect.runPromise(runAt(
      url,
      `insert into sluice.worker (id, serves, inside) values
        ('one/1/a', '[]', '${uses(7)}'), ('two/2/b', '[]', '${uses(5)}'),
        -- edited manually, and gone
        ('odd/3/c', '[]', '{"1": 2}'), ('odder/4/d', '[]', '[7, {"handler": "clinic/card"}]')`,
      `insert into sluice.worker (id, serves, inside, beat_at) values ('old/5/e', '[]', '${
        uses(9)
      }', now() - interval '1 hour')`
    ))
    const finding = "12 persisted inside the database, 6 by a worker: 4 with an ordering key, 2 of another version"
    const card = "0 persisted inside the database, 8 by a worker: 8 from a batch that the database refused"
    const status = await run("status", "--url", url)
    expect(status.stdout).toContain(finding)
    expect(status.stdout).toContain(card)
    expect(status.stdout).not.toContain("clinic/order")
    expect(JSON.parse((await run("status", "--json", "--url", url)).stdout).declared).toMatchObject([
      { handler: "clinic/card", claimed: { refused: 8 }, refusal: "not together with others (P0001)" },
      { handler: "clinic/finding", inside: 12, claimed: { key: 4, version: 2 }, refusal: null },
      { handler: "clinic/order", inside: 0, claimed: {}, refusal: null }
    ])
    const { stdout } = await run("handlers", "--url", url, ...module)
    expect(stdout).toContain(`${finding}, since its workers started`)
    expect(stdout).toContain("the database refuses to persist its answers by itself: not together with others (P0001)")
    const json = JSON.parse((await run("handlers", "--json", "--url", url, ...module)).stdout)
    expect(json.handlers[0].declared).toMatchObject({ inside: 12, claimed: { key: 4, version: 2 }, refusal: null })
    const doctor = await run("doctor", "--url", url)
    expect(doctor.stdout).toMatch(
      /! +declared handlers: clinic\/card: not together with others \(P0001\)\n +→ workers claim/
    )
    await Effect.runPromise(runAt(
      url,
      `update sluice.worker set inside = '[{ "handler": "clinic/card", "inside": 0, "claimed": {}, "refusal": null,
        "unfit": "table card does not fit its declaration: there is no such table" }]' where id = 'one/1/a'`
    ))
    expect((await run("doctor", "--url", url)).stdout).toMatch(
      /! +declared handlers: clinic\/card: table card does not fit.* there is no such table\n +→ repair the table/
    )
    expect((await run("status", "--url", url)).stdout).toContain("its answers are parked: table card does not fit")
    // what waits for a table is told from what waits for a handler
    await Effect.runPromise(runAt(
      url,
      `insert into sluice.chunk_queue (call_id, namespace, schema_identity, schema_version, state, parked_for) values
        ('no-table', 'clinic', 'schemas.clinic.laboratory.card', 1, 'parked', 'no-handler'),
        ('no-handler', 'clinic', 'schemas.clinic.laboratory.x-ray', 1, 'parked', 'no-handler')`
    ))
    const unfit = "handler clinic/card cannot run: table card does not fit its declaration: there is no such table"
    const stuck = await run("stuck", "--url", url)
    expect(stuck.stdout).toContain(`parked: no-table clinic/card\n  ${unfit}\n`)
    await Effect.runPromise(runAt(
      url,
      `insert into sluice.service_call (call_id, namespace, service, correlation_id, status, outputs) values
        ('no-table', 'clinic', 'services.clinic.laboratory.examine', 'no-table', 'succeeded', '{}')`
    ))
    expect((await run("show", "no-table", "--url", url)).stdout).toContain(`: parked\n    ${unfit}`)
    const without = "no handler, or it lacks a fitting table or a service: see `sluice handlers`"
    expect(stuck.stdout).toMatch(new RegExp(`parked: no-handler clinic/x-ray\n  ${without}$`, "m"))
    await Effect.runPromise(runAt(url, "delete from sluice.worker"))
    expect((await run("stuck", "--url", url)).stdout).toContain(`parked: no-table clinic/card\n  ${without}`)
    expect((await run("doctor", "--url", url)).stdout).toContain("ok  declared handlers: no living worker has any")
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
      const draws = yield* Effect.promise(() => check(address))
      expect(draws.reason).toContain("this role has no right to use the sequence card_id_seq")
      yield* runAt(url, `grant usage on sequence card_id_seq to ${role}`)
      expect(yield* Effect.promise(() => check(address))).toMatchObject({ failed: false })
    }))))
})
