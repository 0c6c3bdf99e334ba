/**
 * Records a call whose chunks are claimed from the start, in memory: equal to `store/pg/recordHeld.ts`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type Hold, LeaseLost, type Persisted, type Recording, type ToRecord } from "../../ChunkStore.ts"
import * as Kind from "../../Kind.ts"
import type { Access } from "../MemoryDatabase.ts"
import { kindsPaused } from "./beat.ts"
import { type Numbers, record } from "./record.ts"
import { calls, dead, keyOf, queue, seqKey, type Use } from "./rows.ts"

/** Whether nothing outstanding has the call's ordering key. */
const isFirst = (access: Access, call: Recording, deadBlocksKey: boolean): boolean => {
  if (call.orderingKey === undefined) return true
  const key = keyOf({ namespace: call.namespace, orderingKey: call.orderingKey })
  return !access.values(queue).some((row) => keyOf(row) === key) &&
    !(deadBlocksKey && access.values(dead).some((one) => keyOf(one) === key && one.discarded === undefined))
}

/** Whether a call is new, or its chunks are held by this token, and no kind of its outputs is paused. */
const mayRun = (access: Access, { callId, namespace, outputs }: Recording, token: string): boolean => {
  const paused = kindsPaused(access)
  const isPaused = outputs.some(({ schema: schemaIdentity }) =>
    paused.some((pause) => Kind.covers(pause, { namespace, schemaIdentity }))
  )
  const isHeld = access.values(queue).some((row) => row.key.callId === callId && row.leaseToken === token)
  return !isPaused && (isHeld || access.get(calls, callId) === undefined)
}

/** Fails if the handlers of a call that is to be recorded may not run. */
export const unlessKnown = (use: Use, token: string, { call, notNew }: ToRecord) =>
  Effect.flatMap(use((access) => mayRun(access, call, token)), (may) => {
    if (may) return Effect.void
    notNew()
    return new LeaseLost({ claimed: call.outputs.length, held: 0 })
  })

/** The numbers of a call's chunks, if the token holds all of them: then an earlier try has recorded the call. */
const heldOf = (access: Access, { callId, outputs }: Recording, token: string) => {
  const held = access.values(queue).filter((row) => row.key.callId === callId && row.leaseToken === token)
  return held.length === outputs.length ? held.map((row) => BigInt(row.seq)).sort((a, b) => a < b ? -1 : 1) : undefined
}

/**
 * Records it, and returns the numbers of its chunks; undefined when it was recorded before by another claim or its ordering
 * key is not free.
 */
export const recordHeld = (
  access: Access,
  call: Recording,
  { lease, token, worker }: Hold,
  now: number,
  numbers: Numbers,
  deadBlocksKey: boolean
): ReadonlyArray<bigint> | undefined => {
  if (!isFirst(access, call, deadBlocksKey) || record(access, call, now, numbers) !== "recorded") {
    return heldOf(access, call, token)
  }
  const leased = { leaseToken: token, leaseUntil: now + Duration.toMillis(lease), leasedBy: worker }
  return numbers.seqs.map((seq) => {
    const row = access.get(queue, seqKey(seq))
    if (row !== undefined) access.set(queue, seqKey(seq), { ...row, ...leased })
    return BigInt(seq)
  })
}

/** What was persisted of a call before it was recorded, with the numbers that its chunks have got. */
export const numbered = (
  { outputs }: Recording,
  seqs: ReadonlyArray<bigint>,
  persisted: ReadonlyArray<Persisted>
): ReadonlyArray<Persisted> =>
  persisted.map((line) => {
    const { key } = line.chunk
    const at = outputs.findIndex(({ part = "", schema }) => schema === key.schemaIdentity && part === key.part)
    return { ...line, chunk: { ...line.chunk, seq: seqs[at] ?? line.chunk.seq } }
  })
