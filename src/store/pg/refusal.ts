/**
 * Calls that the database does not take, though nothing is wrong with it.
 */
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { RefusedByStore } from "../../ChunkStore.ts"
import { codeOf, wordsOf } from "./errors.ts"

/**
 * Whether an error is about what was to be written: a value that this database does not take (class 22), a constraint or a
 * trigger that somebody has put on the tables (23, P0001), a limit of the server's that a value exceeds (54). Not a duplicate
 * key: Sluice's own keys meet one only when a sequence was put back, and that is no call's fault.
 */
export const isRefusal = (error: unknown): error is SqlError =>
  isSqlError(error) && /^(22|23(?!505)|54|P0001)/.test(codeOf(error) ?? "")

/** What the database refuses a call with. */
export const refused = (error: SqlError): RefusedByStore => {
  return { _tag: "Refused", reason: `${wordsOf(error)} (${codeOf(error) ?? ""})` }
}
