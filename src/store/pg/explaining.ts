/**
 * Adds advice to database errors that an operator must resolve: a missing right, or a sequence that is behind.
 */
import * as Effect from "effect/Effect"
import { ChunkStoreError } from "../../ChunkStore.ts"
import { explain, type Purpose } from "../Rights.ts"
import { eachVerb } from "../verbs.ts"

/** The purpose that a verb of the port serves. */
const purposeOf = (operation: string, otherwise: Purpose): Purpose =>
  ["record", "recordDecoded", "begin", "renewRun", "abandon"].includes(operation)
    ? "recorder"
    : operation === "releaseWaiting"
    ? "operator"
    : otherwise

/** A service whose errors say which role lacks which right and what to grant, and why a new number already exists. */
export const explaining = (schema: string, role: string, otherwise: Purpose) => {
  const adviceOn = ({ code, operation, reason }: ChunkStoreError): string | undefined => {
    if (code === "42501") return explain(reason, { schema, role, purpose: purposeOf(operation, otherwise) })
    return code === "23505" && /\b(chunk_queue|chunk_failure|subscription_skip|erasure)_pkey\b/.test(reason)
      ? "a sequence is behind the tables, as after logical replication: `sluice migrate` corrects it"
      : undefined
  }
  const explained = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.mapError(effect, (error): E => {
      const advice = error instanceof ChunkStoreError ? adviceOn(error) : undefined
      if (!(error instanceof ChunkStoreError) || advice === undefined) return error
      const { cause, code = "", operation, reason, transient } = error
      // it replaces a ChunkStoreError, so the error's type is unchanged
      return new ChunkStoreError({ operation, transient, code, cause, reason: `${reason}: ${advice}` }) as
        & E
        & ChunkStoreError
    })
  return <S extends object>(service: S): S => eachVerb(service, explained)
}
