/**
 * The sentence for a database's error. It goes by the server's code, and other codes than a user's first ones have one, too.
 */
import * as Effect from "effect/Effect"
import * as SqlError from "effect/sql/SqlError"
import { expect, it } from "vitest"
import { ChunkStoreError } from "../../src/ChunkStore.ts"
import { explain, rememberRole } from "../../src/cli/Failed.ts"
import * as rights from "../../src/store/Rights.ts"

const ofServer = (code: string, message: string) =>
  new SqlError.SqlError({
    reason: new SqlError.UnknownError({
      message: "PgConnection: Query failed",
      cause: Object.assign(new Error(message), { code })
    })
  })

it.each([
  ["42703", "Spalte »facts« existiert nicht", /of an older version than this program: run `sluice migrate`$/],
  ["42883", "function sluice.rank(integer) does not exist", /of an older version than this program/],
  ["25006", "kann INSERT nicht in einer Read-Only-Transaktion ausführen", /^the database is read-only/]
])("%s: %s", (code, message, says) => {
  expect(explain(ofServer(code, message)).message).toMatch(says)
  const ofStore = new ChunkStoreError({ operation: "inspector.status", transient: false, code, reason: message })
  expect(explain(ofStore).message).toMatch(says)
  // what has no code was not said by a server
  expect(explain(new Error(message)).message).toBe(message)
})

it("asks for `sluice migrate` where a table of Sluice is missing, and not where one of the application is", () => {
  Effect.runSync(rememberRole({ role: "nurse", schema: "sluice" }))
  const missing = (name: string) => explain(ofServer("42P01", `relation "${name}" does not exist`)).message
  expect(missing("sluice.service_call")).toContain("run `sluice migrate`")
  expect(missing("audit")).toContain(`relation "audit" does not exist`)
  expect(missing("clinic.audit")).not.toContain("migrate")
})

it("advises no grant where only the owner may", () => {
  const lacking = { schema: "sluice", role: "nurse", purpose: "worker" } as const
  expect(rights.explain("must be owner of table service_call", lacking)).toBeUndefined()
})
