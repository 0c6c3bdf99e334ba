/**
 * Retention in memory: equal to `store/pg/retention.ts`.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { CallAttempt } from "../../CallAttempt.ts"
import { ageOf, type Pruned, Retention, type RetentionPolicy } from "../../Retention.ts"
import type { Access } from "../MemoryDatabase.ts"
import { callEnds, calls, chunkKey, dead, failures, queue, subscriptions, type Use } from "./rows.ts"

/** Deletes old rows, or only counts them. */
const forget = (access: Access, policy: RetentionPolicy, now: number, doIt: boolean): Pruned => {
  const isOld = (input: Duration.Input | undefined, at: number | undefined): boolean => {
    const age = ageOf(input)
    return age !== undefined && at !== undefined && at < now - Duration.toMillis(age)
  }
  const isOldText = ({ at, text }: CallAttempt) => text !== null && isOld(policy.payloads, DateTime.toEpochMillis(at))
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
  const oldAnswers = access.values(calls).filter((row) => !keptCalls.has(row.callId)).flatMap((row) =>
    row.attempts.some((attempt) => isOldText(attempt)) ? [row] : []
  )
  const read = Math.min(
    ...access.values(subscriptions).flatMap(({ feed, place }) => feed === "calls" ? [place] : []),
    Infinity
  )
  const oldEnds = access.values(callEnds).filter((row) => isOld(policy.payloads, row.endedAt) && row.place <= read)
  const answers = oldAnswers.reduce((sum, row) => sum + row.attempts.filter(isOldText).length, 0)
  if (doIt) {
    for (const row of oldAnswers) {
      const attempts = row.attempts.map((attempt) => isOldText(attempt) ? { ...attempt, text: null } : attempt)
      access.set(calls, row.callId, { ...row, attempts })
    }
    for (const row of oldCalls) {
      const { attempts } = access.get(calls, row.callId) ?? row
      access.set(calls, row.callId, { ...row, attempts, input: null, outputs: undefined, details: undefined })
    }
    for (const row of oldLetters) access.delete(dead, chunkKey(row.key))
    for (const row of oldFailures) access.delete(failures, String(row.id))
    for (const row of oldEnds) access.delete(callEnds, row.callId)
  }
  return {
    payloads: oldCalls.length,
    discarded: oldLetters.length,
    failures: oldFailures.length,
    answers,
    ends: oldEnds.length
  }
}

/** The service in memory. */
export const make = (use: Use): Retention["Service"] =>
  Retention.of({
    prune: (policy) => use((access, now) => forget(access, policy, now, true)),
    preview: (policy) => use((access, now) => forget(access, policy, now, false)),
    rollUp: Effect.succeed(0)
  })
