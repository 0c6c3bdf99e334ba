/**
 * The sentence for a database's error. It goes by the SQLSTATE: a server speaks the language that it is set to.
 */
import * as SqlError from "effect/sql/SqlError"
import { expect, it } from "vitest"
import { ChunkStoreError } from "../../src/ChunkStore.ts"
import { explain } from "../../src/cli/Failed.ts"
import * as rights from "../../src/store/Rights.ts"

const ofServer = (code: string, message: string) =>
  new SqlError.SqlError({
    reason: new SqlError.UnknownError({
      message: "PgConnection: Query failed",
      cause: Object.assign(new Error(message), { code })
    })
  })

it.each([
  ["42P01", "Relation »sluice.chunk_queue« existiert nicht", /not there yet: run `sluice migrate`$/],
  ["3F000", "le schéma « sluice » n'existe pas", /not there yet: run `sluice migrate`$/],
  ["42703", "Spalte »facts« existiert nicht", /of an older version than this program: run `sluice migrate`$/],
  ["25006", "kann INSERT nicht in einer Read-Only-Transaktion ausführen", /^the database is read-only/],
  ["26000", "vorbereitete Anweisung »s1« existiert nicht", /a pooler in transaction mode is in between/]
])("%s: %s", (code, message, says) => {
  expect(explain(ofServer(code, message)).message).toMatch(says)
  const ofStore = new ChunkStoreError({ operation: "inspector.status", transient: false, code, reason: message })
  expect(explain(ofStore).message).toMatch(says)
  // what an application says of its own tables is not taken for Sluice's
  expect(explain(new Error(message)).message).toBe(message)
})

it.each([
  ["permission denied for table service_call", /^role nurse lacks rights on sluice\.service_call: grant select/],
  ["keine Berechtigung für Tabelle service_call", /^role nurse lacks rights on sluice\.service_call: grant select/],
  [
    "droit refusé pour la séquence « chunk_seq »",
    /^role nurse lacks rights on sequence sluice\.chunk_seq: grant usage/
  ],
  ["permiso denegado al esquema sluice", /^role nurse lacks usage on schema sluice: /],
  ["permission denied for table note", /^nothing$/],
  ["must be owner of table service_call", /^nothing$/]
])("who lacks what: %s", (message, says) => {
  const why = rights.explain(message, { schema: "sluice", role: "nurse", purpose: "worker" })
  expect(why ?? "nothing").toMatch(says)
})

it("a role's name cannot steer the shell that a command is copied into", () => {
  const why = rights.explain("permission denied for table note_x, worker", {
    schema: "sluice",
    role: "$(reboot)",
    purpose: "worker"
  })
  expect(why).toContain("`sluice grants \"\\u0024(reboot)\" --for worker`")
})
