/**
 * The claim in memory. It has the same steps, with the same names, as the statement in `store/pg/claimAny.ts`. Memory has no
 * locks, so one step examines all due chunks.
 */
import * as Duration from "effect/Duration"
import type { ClaimRequest } from "../../ChunkStore.ts"
import * as Kind from "../../Kind.ts"
import type { Access } from "../MemoryDatabase.ts"
import { dead, type DeadRow, keyOf, queue, type QueueRow, seqKey } from "./rows.ts"

const bySeq = (a: { readonly seq: number }, b: { readonly seq: number }): number => a.seq - b.seq

const isExcepted = (row: QueueRow, except: ReadonlyArray<Kind.Left>): boolean =>
  except.some((kind) => Kind.serves(kind, Kind.of(row)) && row.schemaVersion > (kind.above ?? Number.NEGATIVE_INFINITY))

const isOwn = (row: QueueRow, own: ReadonlyArray<Kind.Served>): boolean =>
  own.some((kind) => Kind.equals(kind, Kind.of(row)) && row.schemaVersion <= Kind.newestRead(kind))

const isDue = (row: QueueRow, request: ClaimRequest, now: number): boolean =>
  row.state === "scheduled"
    ? row.dueAt <= now
    : (row.state === "ready" || (row.state === "waiting" && request.callId !== undefined)) &&
      (row.leaseUntil === undefined || row.leaseUntil < now)

const isAsked = (row: QueueRow, request: ClaimRequest): boolean =>
  (request.namespace === undefined || row.namespace === request.namespace) &&
  (request.callId === undefined || row.key.callId === request.callId) &&
  (isOwn(row, request.own ?? []) || !isExcepted(row, request.except ?? []))

/** A chunk that was held when a worker died; it is claimed alone. */
const isSuspect = (row: QueueRow): boolean => row.leaseToken !== undefined || row.crashes > 0

interface Placed {
  readonly row: QueueRow
  /** Part of an unbroken run that starts at the oldest outstanding chunk of its key. */
  readonly inOrder: boolean
  /** A suspect that can be claimed alone. */
  readonly lone: boolean
  /** Blocked by a chunk or dead letter that is not about to be claimed. */
  readonly stuck: boolean
  /** Its place among all free chunks: never before an older chunk of its key. */
  readonly turn: number
}

const byTurn = (a: Placed, b: Placed): number => a.turn - b.turn || bySeq(a.row, b.row)

/** Outstanding chunks by ordering key, each key's oldest first. A chunk without a key is in a line of its own. */
const lines = (all: ReadonlyArray<QueueRow>): Iterable<ReadonlyArray<QueueRow>> =>
  Map.groupBy([...all].sort(bySeq), (row) => keyOf(row) ?? row.seq).values()

/** The oldest dead letter of each ordering key. */
const oldest = (letters: ReadonlyArray<DeadRow>): ReadonlyMap<string | undefined, number> =>
  new Map([...letters].sort((a, b) => b.seq - a.seq).map((letter) => [keyOf(letter), letter.seq]))

/** The due chunks, each with its place among all outstanding chunks and blocking dead letters. */
const place = (
  due: ReadonlyArray<QueueRow>,
  all: ReadonlyArray<QueueRow>,
  letters: ReadonlyArray<DeadRow>
): ReadonlyArray<Placed> => {
  const firstLetters = oldest(letters)
  const isLooked = new Set(due.map((row) => row.seq))
  const placed: Array<Placed> = []
  for (const line of lines(all)) {
    const key = keyOf(line[0]!)
    const letter = key === undefined ? undefined : firstLetters.get(key)
    // about the earlier chunks of this key: whether all are due and none is a suspect, and their latest rank
    let isNext = true
    let unbroken = true
    let turn = Number.NEGATIVE_INFINITY
    for (const row of line) {
      const blocked = letter !== undefined && letter < row.seq
      const suspect = isSuspect(row)
      turn = Math.max(turn, row.rank)
      if (isLooked.has(row.seq)) {
        const inOrder = isNext && unbroken && !suspect && !blocked
        placed.push({ row, inOrder, lone: suspect && !blocked && row === line[0], stuck: blocked || !isNext, turn })
      }
      isNext &&= isLooked.has(row.seq)
      unbroken &&= !suspect && !blocked
    }
  }
  return placed
}

/** The first chunks by turn, limited in rows and bytes, but at least one: a suspect alone, or others together. */
const cut = (placed: ReadonlyArray<Placed>, request: ClaimRequest): ReadonlyArray<Placed> => {
  const free = placed.filter((one) => one.lone || one.inOrder).sort(byTurn)
  const [first] = free
  if (first === undefined || first.lone) return free.slice(0, 1)
  const taken: Array<Placed> = []
  let total = 0
  for (const one of free.filter(({ inOrder }) => inOrder).slice(0, request.limit)) {
    // what the chunks of a call share is sent, and counted, once
    const isAgain = taken.at(-1)?.row.key.callId === one.row.key.callId
    total += one.row.bytes - (isAgain ? one.row.sharedBytes : 0)
    if (total > request.maxBytes && taken.length > 0) break
    taken.push(one)
  }
  return taken
}

/** One claim: leases chunks, and sets those behind an older chunk of their key to waiting. */
export const claim = (
  access: Access,
  request: ClaimRequest,
  token: string,
  now: number,
  deadBlocksKey: boolean
): ReadonlyArray<QueueRow> => {
  const all = access.values(queue)
  const due = all.filter((row) => isDue(row, request, now) && isAsked(row, request))
  const letters = deadBlocksKey ? access.values(dead).filter((letter) => letter.discarded === undefined) : []
  const placed = place(due, all, letters)
  const held = cut(placed, request).map(({ row }): QueueRow => ({
    ...row,
    state: "ready",
    leaseToken: token,
    leaseUntil: now + Duration.toMillis(request.lease),
    leaseAlone: false,
    leasedBy: request.worker,
    // an expired lease counts as a crash until its worker reports again (see takeBackCrash)
    crashes: row.crashes + (row.leaseToken === undefined ? 0 : 1),
    loneCrashes: row.loneCrashes + (row.leaseToken !== undefined && row.leaseAlone ? 1 : 0),
    lostLeases: row.leaseToken === undefined
      ? row.lostLeases
      : new Map([...row.lostLeases ?? [], [row.leaseToken, row.leaseAlone]])
  }))
  for (const row of held) access.set(queue, seqKey(row.seq), row)
  const demoted = placed.filter((one) => one.stuck && !one.lone && one.row.state !== "waiting")
  for (const { row } of demoted) access.set(queue, seqKey(row.seq), { ...row, state: "waiting" })
  return held
}
