/**
 * The ends of a claim in memory: equal to `store/pg/persist.ts` and `store/pg/settle.ts`.
 */
import * as Duration from "effect/Duration"
import { AlreadyPersisted, type Failure, LeaseLost, type Persisted, type Settlement } from "../../ChunkStore.ts"
import type { Access } from "../MemoryDatabase.ts"
import { chunkKey, dead, failures, ledger, queue, type QueueRow, rankOf, seqKey } from "./rows.ts"

const heldBy = (access: Access, token: string, seq: bigint): QueueRow | undefined => {
  const row = access.get(queue, seqKey(seq))
  return row?.leaseToken === token ? row : undefined
}

/** Writes the ledger and deletes the queue rows; or returns why not, and then the caller must roll back. */
export const settlePersisted = (
  access: Access,
  token: string,
  persisted: ReadonlyArray<Persisted>,
  now: number
): LeaseLost | AlreadyPersisted | undefined => {
  const held = persisted.filter(({ chunk }) => heldBy(access, token, chunk.seq) !== undefined)
  if (held.length < persisted.length) return new LeaseLost({ claimed: persisted.length, held: held.length })
  let kept = 0
  for (const { chunk, handler, handlerVersion, objects } of persisted) {
    access.delete(queue, seqKey(chunk.seq))
    if (access.get(ledger, chunkKey(chunk.key)) !== undefined) continue
    kept++
    access.set(ledger, chunkKey(chunk.key), {
      key: chunk.key,
      namespace: chunk.namespace,
      schemaVersion: chunk.schemaVersion,
      handler,
      handlerVersion,
      objects: objects.map(({ id, type }) => ({ id, type })),
      persistedAt: now
    })
  }
  return kept < persisted.length ? new AlreadyPersisted({ claimed: persisted.length, kept }) : undefined
}

const free = { leaseToken: undefined, leaseUntil: undefined, leaseAlone: false, leasedBy: undefined }

/** A token that lost a chunk reports again, so its worker has not died: takes back the crash that was counted for it. */
const takeBackCrash = (access: Access, token: string, row: QueueRow | undefined): void => {
  const alone = row?.lostLeases?.get(token)
  if (row === undefined || alone === undefined) return
  access.set(queue, seqKey(row.seq), {
    ...row,
    crashes: row.crashes - 1,
    loneCrashes: row.loneCrashes - (alone ? 1 : 0),
    lostLeases: new Map([...row.lostLeases ?? []].filter(([lost]) => lost !== token))
  })
}

/** Releases everything that a token holds. */
export const giveUp = (access: Access, token: string): void => {
  for (const row of access.values(queue)) {
    if (row.leaseToken === token) access.set(queue, seqKey(row.seq), { ...row, ...free })
    else takeBackCrash(access, token, row)
  }
}

/** Settles what this token still holds, and returns those settlements. `nextId` numbers the failures. */
export const settle = (
  access: Access,
  token: string,
  settlements: ReadonlyArray<Settlement>,
  now: number,
  nextId: () => number
): ReadonlyArray<Settlement> => {
  const note = (row: QueueRow, attempt: number, failure: Failure) => {
    const id = nextId()
    access.set(failures, String(id), { id, key: row.key, at: now, attempt, ...failure })
  }
  return settlements.filter((settlement) => {
    const row = heldBy(access, token, settlement.chunk.seq)
    if (row === undefined) {
      const speaks = settlement._tag === "Release" && settlement.hung !== true
      if (speaks) takeBackCrash(access, token, access.get(queue, seqKey(settlement.chunk.seq)))
      return false
    }
    // a worker that was frozen beyond its lease may report a timeout of its handler: no attempt is charged for that
    const charges = settlement._tag === "Retry" || (settlement._tag === "Bury" && settlement.charge)
    if (charges && (row.leaseUntil === undefined || row.leaseUntil <= now)) return false
    const key = seqKey(row.seq)
    switch (settlement._tag) {
      case "Release":
        access.set(queue, key, { ...row, ...free })
        break
      case "Park":
        access.set(queue, key, { ...row, ...free, state: "parked", parkedFor: settlement.reason })
        break
      case "Already":
        access.delete(queue, key)
        break
      case "Retry": {
        const dueAt = now + Duration.toMillis(settlement.delay)
        const attempts = row.attempts + 1
        const rank = rankOf(dueAt, row.priority)
        access.set(queue, key, { ...row, ...free, state: "scheduled", attempts, dueAt, rank })
        note(row, attempts, settlement.failure)
        break
      }
      case "Bury": {
        const attempts = row.attempts + (settlement.charge ? 1 : 0)
        access.delete(queue, key)
        access.set(dead, chunkKey(row.key), {
          key: row.key,
          seq: row.seq,
          namespace: row.namespace,
          schemaVersion: row.schemaVersion,
          position: row.position,
          bytes: row.bytes,
          priority: row.priority,
          orderingKey: row.orderingKey,
          reason: settlement.reason,
          handler: settlement.failure.handler,
          message: settlement.failure.message,
          attempts,
          crashes: row.crashes,
          recordedAt: row.recordedAt,
          diedAt: now,
          discarded: undefined
        })
        note(row, attempts, settlement.failure)
        break
      }
    }
    return true
  })
}
