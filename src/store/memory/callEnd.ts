/**
 * The ends of calls in memory: equal to `store/pg/callEnd.ts`.
 */
import type { Access } from "../MemoryDatabase.ts"
import { callEnds, chunkKey, dead, ledger, openCalls, queue, subscriptions } from "./rows.ts"

/** Opens a call, if a subscription to ends exists. */
export const open = (access: Access, callId: string): void => {
  if (access.values(subscriptions).some((row) => row.feed === "calls")) access.set(openCalls, callId, callId)
}

const count = (access: Access, table: typeof ledger | typeof dead, callId: string): number =>
  access.values<{ readonly key: Parameters<typeof chunkKey>[0] }>(table).filter((row) => row.key.callId === callId)
    .length

/**
 * Ends those of these calls, or of all, that are open and have no chunk left. Returns how many. Their numbers in the log
 * begin with `first`.
 */
export const close = (access: Access, now: number, first: number, callIds?: ReadonlyArray<string>): number => {
  const open = access.values(openCalls)
  if (open.length === 0) return 0
  const outstanding = new Set(access.values(queue).map((row) => row.key.callId))
  const done = open.filter((callId) => !outstanding.has(callId) && (callIds === undefined || callIds.includes(callId)))
  for (const [index, callId] of done.entries()) {
    access.delete(openCalls, callId)
    access.set(callEnds, callId, {
      callId,
      place: first + index,
      persisted: count(access, ledger, callId),
      dead: count(access, dead, callId),
      endedAt: now
    })
  }
  return done.length
}
