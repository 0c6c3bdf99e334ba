/**
 * `sluice grants`: what it prints is SQL; with an operator's rights every command works, and without them each says which
 * role lacks what.
 */
import { it } from "@effect/vitest"
import { CallRecorder } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { describe, expect } from "vitest"
import { Diagnosis } from "../../src/cli/commands/doctor.ts"
import { call, settle } from "../contract/operators/dialogues.ts"
import * as inspect from "../support/inspect.ts"
import { asRole, client, freshDatabase, runAt } from "../support/Postgres.ts"
import { handlers, running } from "./inProcess.ts"

/** Everything that the command can be asked for, in an order in which each finds something. */
const commands = (calls: string): ReadonlyArray<ReadonlyArray<string>> => [
  ["record", calls],
  ["drain", "--until-empty", ...handlers],
  ["status"],
  ["stuck"],
  ["show", "call-1"],
  ["handlers", ...handlers],
  ["dead", "list"],
  ["dead", "show", "dies"],
  ["dead", "redrive", "--all"],
  ["dead", "discard", "--all", "--because", "a test"],
  ["pause", "--namespace", "clinic"],
  ["resume", "--namespace", "clinic"],
  ["prune", "--payloads", "1d", "--failures", "1d", "--discarded", "1d"],
  ["erase", "--call", "dies", "--because", "a test"],
  ["erase", "--list"]
]

const calls = Effect.acquireRelease(
  Effect.sync(() => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-grants-"))
    const file = path.join(folder, "calls.jsonl")
    fs.writeFileSync(file, `${JSON.stringify({ ...call("call-1"), namespace: "clinic" })}\n`)
    return file
  }),
  (file) => Effect.sync(() => fs.rmSync(path.dirname(file), { recursive: true }))
)

/** A database with a dead letter, and a role that may do nothing there. */
const setUp = Effect.fnUntraced(function*(name: string) {
  const url = yield* freshDatabase()
  yield* Effect.gen(function*() {
    yield* CallRecorder.CallRecorder.use((recorder) => recorder.record(call("dies")))
    yield* settle({ dead: "exhausted" })
    yield* inspect.status
  }).pipe(Effect.provide(
    CallRecorder.layer.pipe(Layer.provideMerge(Layer.fresh(PgStore.layer)), Layer.provide(Layer.fresh(client(url))))
  ))
  const { role, url: as } = yield* asRole(url, name)
  return { url, as, role, file: yield* calls }
})

const findingsOf = (printed: string) =>
  Schema.decodeUnknownSync(Schema.toCodecJson(Diagnosis))(JSON.parse(printed)).findings

describe("sluice grants", () => {
  it.live("names the role and no other, whatever its name holds", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      const sql = (text: string) =>
        Effect.provide(SqlClient.SqlClient.use((sql) => sql.unsafe<{ grantee: string }>(text)), client(url))
      const suffix = new URL(url).pathname.slice(6, 14)
      const names = [`a";drop table note;--${suffix}`, `a\nb ${suffix}`, `a\u200bb${suffix}`, `a\\u200bb${suffix}`]
      yield* running("migrate", "--url", url)
      for (const name of names) {
        const quoted = `"${name.replaceAll("\"", "\"\"")}"`
        yield* Effect.acquireRelease(
          sql(`create role ${quoted}`),
          () => Effect.ignore(Effect.andThen(sql(`drop owned by ${quoted}`), sql(`drop role ${quoted}`)))
        )
        const { stdout } = yield* running("grants", name, "--for", "recorder")
        yield* runAt(url, ...stdout.split(/;\n|;$/).filter((statement) => statement !== ""))
        const rows = yield* sql(
          "select distinct grantee from information_schema.role_table_grants where table_schema = 'sluice'"
        )
        expect(rows.map((row) => row.grantee)).toContain(name)
      }
    }).pipe(Effect.scoped))

  it.live("to an operator: every command works, and the doctor sees all", () =>
    Effect.gen(function*() {
      const { as, file, role, url } = yield* setUp("operator")
      const { stdout: printed } = yield* running("grants", role, "--for", "operator")
      yield* runAt(url, ...printed.split(/;\n?/).filter((statement) => statement !== ""))
      for (const args of [["migrate"], ["migrate", "--status"], ...commands(file)]) {
        const { reason: failed } = yield* running(...args, "--url", as)
        expect({ args, failed }).toEqual({ args, failed: "" })
      }
      const findings = findingsOf((yield* running("doctor", "--json", "--url", as)).stdout)
      // what was redriven has no handler here, and no worker lives
      const found = findings.filter((one) => one.severity !== "ok").map((one) => one.check)
      expect(found.filter((check) => check !== "handlers" && check !== "workers")).toEqual([])
      expect(findings.length).toBeGreaterThan(15)
    }).pipe(Effect.scoped))

  it.live(
    "without them each command says which role lacks what, and what to grant; the doctor goes on",
    () =>
      Effect.gen(function*() {
        const { as, file, role, url } = yield* setUp("nobody")
        yield* runAt(url, `grant usage on schema sluice to ${role}`, `grant select on sluice.migration to ${role}`)
        for (const args of commands(file)) {
          const { reason: failed } = yield* running(...args, "--url", as)
          expect({ args, failed }).toEqual({
            args,
            failed: expect.stringMatching(
              new RegExp(`role ${role} lacks rights on sluice\\.\\w+: grant .* to "${role}"`)
            )
          })
        }
        const findings = findingsOf((yield* running("doctor", "--json", "--url", as)).stdout)
        const hidden = findings.filter((one) => one.found.startsWith("cannot"))
        expect(hidden.map((one) => one.check)).toEqual(
          [
            "answers",
            "snapshots",
            "workers",
            "age",
            "scheduled",
            "leases",
            "declared handlers",
            "handlers",
            "pauses",
            "dead letters",
            "held up",
            "waiting",
            "subscriptions",
            "event log"
          ]
        )
        for (const { advice } of hidden) expect(advice).toContain(role)
        expect(findings.find((one) => one.check === "indexes")).toMatchObject({ severity: "ok" })
      }).pipe(Effect.scoped)
  )

  it.live("where even the schema is closed, the doctor says that", () =>
    Effect.gen(function*() {
      const { as, role } = yield* setUp("stranger")
      const findings = findingsOf((yield* running("doctor", "--json", "--url", as)).stdout)
      expect(findings.find((one) => one.check === "tables")).toMatchObject({ severity: "ok" })
      expect(findings.find((one) => one.check === "migrations")).toMatchObject({
        found: expect.stringContaining("permission denied for schema sluice"),
        advice: expect.stringContaining(`role ${role} lacks usage on schema sluice`)
      })
      expect((yield* running("status", "--url", as)).reason).toContain(`role ${role} lacks usage on schema sluice`)
    }).pipe(Effect.scoped))

  it.live("says no to what is no role, and asks no database", () =>
    Effect.gen(function*() {
      for (const name of ["public", "none", "x".repeat(64), ""]) {
        expect((yield* running("grants", name)).reason).not.toBe("")
      }
      expect((yield* running("grants", "clinic_app")).stdout).toMatch(
        /^grant usage on schema sluice to "clinic_app";\n/
      )
    }))
})
