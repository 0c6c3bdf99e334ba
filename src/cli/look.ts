/**
 * Runs one check of the doctor. If the server refuses the check, the others still run.
 */
import * as Effect from "effect/Effect"
import { ChunkStoreError } from "../ChunkStore.ts"
import * as rights from "../store/Rights.ts"
import { attention, type Finding, type Patient } from "./Finding.ts"

/** The finding for a check that the server refused. Without an error code the server did not answer: no check can run. */
const refusal = (
  { code, reason }: ChunkStoreError,
  check: string,
  { role, settings: { schema } }: Patient
): Finding | undefined => {
  if (code === undefined) return undefined
  // of a missing right, table or column
  const advice = new Map([
    ["42501", `grant role ${role} what it lacks`],
    ["42P01", "run `sluice migrate`"],
    ["42703", "run `sluice migrate`"]
  ])
  const why = code === "42501" ? rights.explain(reason, { role, schema, purpose: "operator" }) : undefined
  return attention(
    check,
    `cannot be looked at: ${reason} (${code})`,
    why ?? advice.get(code) ?? "run the doctor again, or see the server's log"
  )
}

/** Runs a check and returns its findings. If the server refuses it, the finding names the role and the missing grant. */
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
