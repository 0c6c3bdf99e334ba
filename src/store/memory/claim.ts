/**
 * The claim in memory: the same steps, by the same names, as the statement in `store/pg/claim.ts`.
 */
import * as Duration from "effect/Duration"
import type { ClaimRequest, Kind } from "../../ChunkStore.ts"
import type { Access } from "../MemoryDatabase.ts"
import { dead, queue, type QueueRow, seqKey } from "./rows.ts"

const byRank = (a: QueueRow, b: QueueRow): number => a.rank - b.rank || a.seq - b.seq
const bySeq = (a: QueueRow, b: QueueRow): number => a.seq - b.seq

const isExcepted = (row: QueueRow, except: ReadonlyArray<Kind>): boolean =>
  except.some((kind) =>
    kind.schemaIdentity === row.key.schemaIdentity && (kind.namespace === row.namespace || kind.namespace === "core")
  )

const isOwn = (row: QueueRow, own: ReadonlyArray<Kind>): boolean =>
  own.some((kind) => kind.namespace === row.namespace && kind.schemaIdentity === row.key.schemaIdentity)

const isDue = (row: QueueRow, request: ClaimRequest, now: number): boolean =>
  row.state === "scheduled"
    ? row.dueAt <= now
    : (row.state === "ready" || (row.state === "waiting" && request.callId !== undefined)) &&
      (row.leaseUntil === undefined || row.leaseUntil < now)

const isAsked = (row: QueueRow, request: ClaimRequest): boolean =>
  (request.namespace === undefined || row.namespace === request.namespace) &&
  (request.callId === undefined || row.key.callId === request.callId) &&
  (isOwn(row, request.own ?? []) || !isExcepted(row, request.except ?? []))

/** The first by rank, bounded in rows and bytes, but always one. */
const cut = (rows: ReadonlyArray<QueueRow>, request: ClaimRequest): ReadonlyArray<QueueRow> => {
  const first: Array<QueueRow> = []
  let total = 0
  for (const row of [...rows].sort(byRank).slice(0, request.limit)) {
    // what the chunks of a call share is handed out, and counted, once
    total += row.bytes - (first.at(-1)?.key.callId === row.key.callId ? row.sharedBytes : 0)
    if (total > request.maxBytes && first.length > 0) break
    first.push(row)
  }
  return first
}

/** A chunk held when a worker died; it is claimed alone. */
const isSuspect = (row: QueueRow): boolean => row.leaseToken !== undefined || row.crashes > 0

interface Placed {
  readonly row: QueueRow
  /** Part of an unbroken run from the oldest one outstanding of its key. */
  readonly inOrder: boolean
  /** A suspect that could go alone. */
  readonly lone: boolean
  /** Held up by something that is not itself about to be claimed. */
  readonly stuck: boolean
}

/** The outstanding chunks of each ordering key, oldest first. */
const keysOf = (all: ReadonlyArray<QueueRow>): ReadonlyMap<string, ReadonlyArray<QueueRow>> => {
  const keys = new Map<string, Array<QueueRow>>()
  for (const row of all) {
    if (row.orderingKey === undefined) continue
    const rows = keys.get(row.orderingKey)
    if (rows === undefined) keys.set(row.orderingKey, [row])
    else rows.push(row)
  }
  for (const rows of keys.values()) rows.sort(bySeq)
  return keys
}

const place = (
  first: ReadonlyArray<QueueRow>,
  all: ReadonlyArray<QueueRow>,
  isBlocked: (row: QueueRow) => boolean
): ReadonlyArray<Placed> => {
  const keys = keysOf(all)
  const cutSeqs = new Set(first.map((row) => row.seq))
  return first.map((row) => {
    const older = row.orderingKey === undefined
      ? []
      : (keys.get(row.orderingKey) ?? []).filter((other) => other.seq < row.seq)
    const blocked = row.orderingKey !== undefined && isBlocked(row)
    const run = [...older, row]
    return {
      row,
      inOrder: run.every((other) => cutSeqs.has(other.seq) && !isSuspect(other)) && !blocked,
      lone: isSuspect(row) && !blocked && older.length === 0,
      stuck: blocked || older.some((other) => !cutSeqs.has(other.seq))
    }
  })
}

/**
 * One claim: the chunks it took, and how many were found behind an older one of their key and put aside. When it took
 * none but put some aside, what comes after them may be free: try again.
 */
export const claim = (
  access: Access,
  request: ClaimRequest,
  token: string,
  now: number,
  deadBlocksKey: boolean
): { readonly held: ReadonlyArray<QueueRow>; readonly demoted: number } => {
  const all = access.values(queue)
  const blocking = deadBlocksKey
    ? access.values(dead).filter((letter) => letter.orderingKey !== undefined && letter.discarded === undefined)
    : []
  const first = cut(all.filter((row) => isDue(row, request, now) && isAsked(row, request)), request)
  const placed = place(
    first,
    all,
    (row) => blocking.some((letter) => letter.orderingKey === row.orderingKey && letter.seq < row.seq)
  )
  const leading = placed.find((one) => one.lone || one.inOrder)
  const picked = leading === undefined ? [] : leading.lone ? [leading] : placed.filter((one) => one.inOrder)
  const held = picked.map(({ row }): QueueRow => ({
    ...row,
    state: "ready",
    leaseToken: token,
    leaseUntil: now + Duration.toMillis(request.lease),
    leaseAlone: false,
    leasedBy: request.worker,
    crashes: row.crashes + (row.leaseToken === undefined ? 0 : 1),
    loneCrashes: row.loneCrashes + (row.leaseToken !== undefined && row.leaseAlone ? 1 : 0)
  }))
  for (const row of held) access.set(queue, seqKey(row.seq), row)
  // one that was put aside before does not count: a claim for its call would look again and again
  const demoted = placed.filter((one) => one.stuck && !one.lone && one.row.state !== "waiting")
  for (const { row } of demoted) access.set(queue, seqKey(row.seq), { ...row, state: "waiting" })
  return { held, demoted: demoted.length }
}

/** Makes the next chunks of these ordering keys claimable. */
export const wakeFollowers = (access: Access, keys: Iterable<string | undefined>): void => {
  const wanted = new Set(keys)
  wanted.delete(undefined)
  if (wanted.size === 0) return
  const waiting = access.values(queue).filter((row) => row.state === "waiting" && wanted.has(row.orderingKey))
  for (const row of waiting) access.set(queue, seqKey(row.seq), { ...row, state: "ready" })
}
