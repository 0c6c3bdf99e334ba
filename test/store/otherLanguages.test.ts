/**
 * Messages of a server in another language (`lc_messages`): what to do is said all the same.
 */
import * as Effect from "effect/Effect"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import { describe, expect, it } from "vitest"
import { explain, rememberRole } from "../../src/cli/Failed.ts"
import * as Rights from "../../src/store/Rights.ts"

const lacking = { purpose: "worker", role: "My Role", schema: "sluice" } as const

/** An error as the client gives it. */
const sqlError = (code: string, message: string) =>
  new SqlError({
    reason: new UnknownError({
      cause: Object.assign(new Error(message), { code }),
      message: "failed",
      operation: "query"
    })
  })

describe("a missing right", () => {
  it.each([
    ["permission denied for table chunk_queue", "sluice.chunk_queue"],
    ["keine Berechtigung für Tabelle chunk_queue", "sluice.chunk_queue"],
    ["droit refusé pour la séquence chunk_seq", "sequence sluice.chunk_seq"],
    ["对表 persisted_chunk 权限不够", "sluice.persisted_chunk"],
    ["テーブルpersisted_chunkへのアクセスが拒否されました", "sluice.persisted_chunk"]
  ])("%s", (message, object) => {
    expect(Rights.explain(message, lacking)).toMatch(
      new RegExp(
        `^role My Role lacks rights on ${object}: grant .* to "My Role"; \`sluice grants "My Role" --for worker\``
      )
    )
  })

  it("of the schema, and of what is not Sluice's", () => {
    expect(Rights.explain("keine Berechtigung für Schema sluice", lacking)).toContain("lacks usage on schema sluice")
    expect(Rights.explain("keine Berechtigung für Tabelle note", lacking)).toBeUndefined()
    expect(Rights.explain("keine Berechtigung für Tabelle chunk_queue_of_others", lacking)).toBeUndefined()
  })
})

describe("a command that fails", () => {
  it.each([
    ["42P01", "Relation »sluice.chunk_queue« existiert nicht", /run `sluice migrate`/],
    ["3F000", "Schema »sluice« existiert nicht", /run `sluice migrate`/],
    ["26000", "vorbereitete Anweisung »p1« existiert nicht", /SLUICE_LISTEN=false/],
    ["42501", "keine Berechtigung für Tabelle dead_letter", /grant .* on sluice.dead_letter to "My Role"/]
  ])("with %s says what to do", (code, message, told) => {
    Effect.runSync(rememberRole({ role: "My Role", schema: "sluice" }))
    expect(explain(sqlError(code, message)).message).toMatch(told)
  })
})
