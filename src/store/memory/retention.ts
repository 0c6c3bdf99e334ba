/**
 * Retention in memory: equal to `store/pg/retention.ts`.
 */
import * as Duration from "effect/Duration"
import { ageOf, type Pruned, Retention, type RetentionPolicy } from "../../Retention.ts"
import type { Access } from "../MemoryDatabase.ts"
import { calls, chunkKey, dead, failures, queue, type Use } from "./rows.ts"

/** Deletes old rows, or only counts them. */
const forget = (access: Access, policy: RetentionPolicy, now: number, doIt: boolean): Pruned => {
  const isOld = (input: Duration.Input | undefined, at: number | undefined): boolean => {
    const age = ageOf(input)
    return age !== undefined && at !== undefined && at < now - Duration.toMillis(age)
  }
  const outstanding = access.values(queue)
  const buried = access.values(dead)
  const keptCalls = new Set(
    [...outstanding, ...buried.filter((row) => row.discarded === undefined)].map((row) => row.key.callId)
  )
  const keptChunks = new Set([...outstanding, ...buried].map((row) => chunkKey(row.key)))

  const oldCalls = access.values(calls).filter((row) =>
    row.outputs !== undefined && isOld(policy.payloads, row.recordedAt) && !keptCalls.has(row.callId)
  )
  const oldLetters = buried.filter((row) => isOld(policy.discarded, row.discarded?.at))
  const oldFailures = access.values(failures).filter((row) =>
    isOld(policy.failures, row.at) && !keptChunks.has(chunkKey(row.key))
  )
  if (doIt) {
    for (const row of oldCalls) {
      access.set(calls, row.callId, { ...row, input: null, outputs: undefined, details: undefined })
    }
    for (const row of oldLetters) access.delete(dead, chunkKey(row.key))
    for (const row of oldFailures) access.delete(failures, String(row.id))
  }
  return { payloads: oldCalls.length, discarded: oldLetters.length, failures: oldFailures.length }
}

/** The service in memory. */
export const make = (use: Use): Retention["Service"] =>
  Retention.of({
    prune: (policy) => use((access, now) => forget(access, policy, now, true)),
    preview: (policy) => use((access, now) => forget(access, policy, now, false))
  })
