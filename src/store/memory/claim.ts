/**
 * The claim in memory: the same steps, by the same names, as the statement in `store/pg/claimAny.ts`. Nothing is locked in
 * memory, so all that is due is looked at in one step.
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
  /** Its place among all that is free: never before an older one of its key. */
  readonly turn: number
}

const byTurn = (a: Placed, b: Placed): number => a.turn - b.turn || bySeq(a.row, b.row)

/** Outstanding chunks by ordering key, each key's oldest first. One without a key is alone. */
const lines = (all: ReadonlyArray<QueueRow>): Iterable<ReadonlyArray<QueueRow>> =>
  Map.groupBy([...all].sort(bySeq), (row) => keyOf(row) ?? row.seq).values()

/** The oldest letter of each ordering key. */
const oldest = (letters: ReadonlyArray<DeadRow>): ReadonlyMap<string | undefined, number> =>
  new Map([...letters].sort((a, b) => b.seq - a.seq).map((letter) => [keyOf(letter), letter.seq]))

/** Chunks that are due, each with where it stands among all that is outstanding, and the letters that block. */
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
    // of those before it: whether all are looked at, and none of them is a suspect; and the latest rank
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

/** The first whose turn it is, bounded in rows and bytes, but always one: a suspect alone, the others together. */
const cut = (placed: ReadonlyArray<Placed>, request: ClaimRequest): ReadonlyArray<Placed> => {
  const free = placed.filter((one) => one.lone || one.inOrder).sort(byTurn)
  const [first] = free
  if (first === undefined || first.lone) return free.slice(0, 1)
  const taken: Array<Placed> = []
  let total = 0
  for (const one of free.filter(({ inOrder }) => inOrder).slice(0, request.limit)) {
    // what the chunks of a call share is handed out, and counted, once
    const isAgain = taken.at(-1)?.row.key.callId === one.row.key.callId
    total += one.row.bytes - (isAgain ? one.row.sharedBytes : 0)
    if (total > request.maxBytes && taken.length > 0) break
    taken.push(one)
  }
  return taken
}

/** One claim: takes chunks, and puts aside those that are found behind an older one of their key. */
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
    // a lease that ran out: its worker is taken to have died, unless it is heard of again (see takeBackCrashes)
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
