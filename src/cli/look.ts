/**
 * One look of the doctor's, that does not keep it from the others.
 */
import * as Effect from "effect/Effect"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { StoreError } from "../ChunkStore.ts"
import { storeError } from "../store/pg/errors.ts"
import * as rights from "../store/pg/rights.ts"
import { attention, type Finding, type Patient } from "./Finding.ts"

/** What the server refused a look with. Without a code it did not answer: then nothing else can be looked at. */
const refusal = ({ code, reason }: StoreError, check: string, { role, schema }: Patient): Finding | undefined => {
  if (code === undefined) return undefined
  const why = rights.explain(reason, { role, schema, purpose: "operator" })
  return attention(
    check,
    `cannot be looked at: ${reason} (${code})`,
    why ?? (code === "42501" ? `grant role ${role} what it lacks` : "run the doctor again, or see the server's log")
  )
}

/** A look, and what it finds: where the server refuses it, that, with the role and the grant it lacks. */
export const look = <E, R>(
  patient: Patient,
  check: string,
  looking: Effect.Effect<Finding | ReadonlyArray<Finding>, E | SqlError | StoreError, R>
): Effect.Effect<ReadonlyArray<Finding>, E | SqlError | StoreError, R> =>
  looking.pipe(
    Effect.map((found) => [found].flat()),
    Effect.catch((error) => {
      const told = isSqlError(error) ? storeError(check)(error) : error
      const found = told instanceof StoreError ? refusal(told, check, patient) : undefined
      return found === undefined ? Effect.fail(error) : Effect.succeed([found])
    })
  )
