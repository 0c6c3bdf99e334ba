/**
 * One look of the doctor's, that does not keep it from the others.
 */
import * as Effect from "effect/Effect"
import { ChunkStoreError } from "../ChunkStore.ts"
import * as rights from "../store/Rights.ts"
import { attention, type Finding, type Patient } from "./Finding.ts"

/** What the server refused a look with. Without a code it did not answer: then nothing else can be looked at. */
const refusal = (
  { code, reason }: ChunkStoreError,
  check: string,
  { role, settings: { schema } }: Patient
): Finding | undefined => {
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
  looking: Effect.Effect<Finding | ReadonlyArray<Finding>, E | ChunkStoreError, R>
): Effect.Effect<ReadonlyArray<Finding>, E | ChunkStoreError, R> =>
  looking.pipe(
    Effect.map((found) => [found].flat()),
    Effect.catch((error) => {
      const found = error instanceof ChunkStoreError ? refusal(error, check, patient) : undefined
      return found === undefined ? Effect.fail(error) : Effect.succeed([found])
    })
  )
