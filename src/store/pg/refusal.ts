/**
 * Recognizes calls that the database refuses although the database itself works.
 */
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { RefusedByStore } from "../../ChunkStore.ts"
import { codeOf, wordsOf } from "./errors.ts"

/**
 * Whether an error is about the data to be written: a value that this database does not accept (class 22), a constraint or
 * trigger that was added to the tables (23, P0001), a server limit that a value exceeds (54). A duplicate key does not
 * count: Sluice's own keys produce one only after a sequence was set back, which is not the fault of a call.
 */
export const isRefusal = (error: unknown): error is SqlError =>
  isSqlError(error) && /^(22|23(?!505)|54|P0001)/.test(codeOf(error) ?? "")

/** The database's refusal of a call, in the port's form. */
export const refused = (error: SqlError): RefusedByStore => {
  return { _tag: "Refused", reason: `${wordsOf(error)} (${codeOf(error) ?? ""})` }
}
