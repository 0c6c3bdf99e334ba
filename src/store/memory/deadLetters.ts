/**
 * Dead letters in memory: equal to `store/pg/deadLetters.ts`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import { type DeadLetter, type DeadLetterCount, type DeadLetterFilter, type DeadLetters } from "../../DeadLetters.ts"
import * as Metrics from "../../Metrics.ts"
import type { Access } from "../MemoryDatabase.ts"
import { failuresOf, utc } from "./read.ts"
import {
  calls,
  chunkKey,
  copy,
  dead,
  type DeadRow,
  ledger,
  queue,
  rankOf,
  seqKey,
  untouched,
  type Use
} from "./rows.ts"
import type { Gone } from "./waiting.ts"

const is = (wanted: string | undefined, value: string): boolean => wanted === undefined || wanted === value

const matches = (row: DeadRow, filter: DeadLetterFilter, now: number): boolean =>
  is(filter.callId, row.key.callId) && is(filter.namespace, row.namespace) &&
  is(filter.schemaIdentity, row.key.schemaIdentity) && is(filter.part, row.key.part) &&
  is(filter.handler, row.handler) && is(filter.reason, row.reason) &&
  (filter.olderThan === undefined || row.diedAt < now - Duration.toMillis(filter.olderThan)) &&
  (filter.newerThan === undefined || row.diedAt > now - Duration.toMillis(filter.newerThan)) &&
  (filter.text === undefined || row.message.includes(filter.text)) &&
  (row.discarded !== undefined) === (filter.discarded === true)

const find = (access: Access, filter: DeadLetterFilter, now: number): ReadonlyArray<DeadRow> =>
  access.values(dead).filter((row) => matches(row, filter, now))

const toLetter = (row: DeadRow): DeadLetter => ({
  key: row.key,
  namespace: row.namespace,
  schemaVersion: row.schemaVersion,
  orderingKey: row.orderingKey ?? null,
  handler: row.handler,
  reason: row.reason,
  message: row.message,
  attempts: row.attempts,
  crashes: row.crashes,
  recordedAt: utc(row.recordedAt),
  diedAt: utc(row.diedAt),
  discarded: row.discarded === undefined ? null : { at: utc(row.discarded.at), reason: row.discarded.reason }
})

/** Moves a letter back to the queue. Returns whether the chunk no longer blocks its ordering key. */
export const redrive = (access: Access, row: DeadRow, now: number): boolean => {
  access.delete(dead, chunkKey(row.key))
  // a chunk that was persisted in the meantime only leaves the dead letters
  if (access.get(ledger, chunkKey(row.key)) !== undefined) return true
  const { bytes, key, namespace, orderingKey, position, priority, recordedAt, schemaVersion, seq } = row
  access.set(
    queue,
    seqKey(seq),
    untouched({
      seq,
      key,
      namespace,
      schemaVersion,
      position,
      bytes,
      sharedBytes: 0,
      orderingKey,
      priority,
      dueAt: now,
      rank: rankOf(recordedAt, priority),
      state: "ready",
      recordedAt
    })
  )
  return false
}

const discard = (reason: string) => (access: Access, row: DeadRow, now: number): boolean => {
  access.set(dead, chunkKey(row.key), { ...row, discarded: { at: now, reason } })
  return true
}

/**
 * The service in memory. It calls `wake` with letters that no longer block their key, and runs `moved` when chunks have
 * become claimable.
 */
export const make = (
  use: Use,
  wake: (gone: Gone) => Effect.Effect<void>,
  moved: Effect.Effect<void>
): Omit<DeadLetters["Service"], "beginRepair" | "endRepair"> => {
  const each = Effect.fnUntraced(function*(
    filter: DeadLetterFilter,
    step: (access: Access, row: DeadRow, now: number) => boolean
  ) {
    const { count, gone } = yield* use((access, now) => {
      const rows = find(access, filter, now)
      return { count: rows.length, gone: rows.filter((row) => step(access, row, now)) }
    })
    yield* wake(gone)
    if (count > 0) yield* moved
    return count
  })

  return {
    list: (filter, { limit, offset = 0 }) =>
      use((access, now) =>
        [...find(access, filter, now)].sort((a, b) => b.diedAt - a.diedAt || b.seq - a.seq)
          .slice(offset, offset + limit).map(toLetter)
      ),
    count: (filter) =>
      use((access, now) => {
        const kinds = Map.groupBy(
          find(access, filter, now),
          (row) => JSON.stringify([row.namespace, row.key.schemaIdentity, row.reason])
        )
        return [...kinds].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, rows]): DeadLetterCount => {
          const { key, namespace, reason } = rows[0]!
          return { namespace, schemaIdentity: key.schemaIdentity, reason, count: rows.length }
        })
      }),
    inspect: (key) =>
      use((access) =>
        Option.map(Option.fromUndefinedOr(access.get(dead, chunkKey(key))), (row) => ({
          letter: toLetter(row),
          failures: failuresOf(access, key),
          data: copy(access.get(calls, key.callId)?.outputs?.[row.position]?.data) ?? null
        }))
      ),
    redrive: (filter) => Effect.tap(each(filter, redrive), (moved) => Metric.update(Metrics.redriven, moved)),
    discard: (filter, reason) => filter.discarded === true ? Effect.succeed(0) : each(filter, discard(reason))
  }
}
