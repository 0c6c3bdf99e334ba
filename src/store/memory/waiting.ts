/**
 * Chunks that wait behind an older chunk of their ordering key, in memory: equal to `store/pg/waiting.ts`.
 */
import type { Access } from "../MemoryDatabase.ts"
import { dead, keyOf, queue, type QueueRow, seqKey } from "./rows.ts"

const wake = (access: Access, rows: ReadonlyArray<QueueRow>): number => {
  for (const row of rows) access.set(queue, seqKey(row.seq), { ...row, state: "ready" })
  return rows.length
}

/** Namespaces and ordering keys of chunks or letters that no longer block their keys. */
export type Gone = ReadonlyArray<Parameters<typeof keyOf>[0]>

/**
 * Makes the next chunks of these ordering keys claimable. Runs separately, after the removal of their predecessors commits.
 */
export const wakeFollowers = (access: Access, gone: Gone): number => {
  const keys = new Set(gone.map(keyOf))
  keys.delete(undefined)
  if (keys.size === 0) return 0
  return wake(access, access.values(queue).filter((row) => row.state === "waiting" && keys.has(keyOf(row))))
}

/** The waiting chunks that nothing blocks. */
export const stranded = (access: Access, deadBlocksKey: boolean): ReadonlyArray<QueueRow> => {
  const first = new Map<string | undefined, number>()
  const letters = deadBlocksKey ? access.values(dead).filter((letter) => letter.discarded === undefined) : []
  for (const row of [...access.values(queue), ...letters]) {
    const key = keyOf(row)
    first.set(key, Math.min(first.get(key) ?? row.seq, row.seq))
  }
  return access.values(queue).filter((row) =>
    row.state === "waiting" && (row.orderingKey === undefined || first.get(keyOf(row)) === row.seq)
  )
}

/** Releases the waiting chunks that nothing blocks, and returns how many. */
export const release = (access: Access, deadBlocksKey: boolean): number => wake(access, stranded(access, deadBlocksKey))
