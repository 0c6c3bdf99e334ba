/**
 * The reading of calls and counts, in memory: equal to `store/pg/call.ts` and `store/pg/status.ts`.
 */
import * as DateTime from "effect/DateTime"
import type { CallView, ChunkView, KindStatus, LedgerEntry } from "../../CallView.ts"
import type { InvalidCall, InvalidRequest } from "../../Inspector.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import type { Access } from "../MemoryDatabase.ts"
import {
  type CallRow,
  calls,
  chunkKey,
  copy,
  dead,
  type DeadRow,
  type FailureRow,
  failures,
  keyOf,
  ledger,
  type LedgerRow,
  queue,
  type QueueRow
} from "./rows.ts"

/** A time in the port's form. */
export const utc = (millis: number): DateTime.Utc => DateTime.makeUnsafe(millis)
const utcOrNull = (millis: number | undefined): DateTime.Utc | null => millis === undefined ? null : utc(millis)

/** A line of the ledger in the port's form. */
export const toEntry = ({ persistedAt, ...row }: LedgerRow): LedgerEntry => ({ ...row, persistedAt: utc(persistedAt) })

const isInFlight = (row: QueueRow, now: number): boolean => row.leaseUntil !== undefined && row.leaseUntil > now

const byId = (a: FailureRow, b: FailureRow): number => a.id - b.id
const toFailure = ({ at, attempt, handler, kind, message }: FailureRow) => ({
  at: utc(at),
  attempt,
  handler,
  kind,
  message
})

/** The recorded failures of a chunk, the oldest first. */
export const failuresOf = (access: Access, key: ChunkKey) =>
  access.values(failures).filter((row) => chunkKey(row.key) === chunkKey(key)).sort(byId).map(toFailure)

const outstandingView = (row: QueueRow, now: number): Partial<ChunkView> & Pick<ChunkView, "state"> => ({
  state: isInFlight(row, now) ? "in-flight" : row.state,
  attempts: row.attempts,
  crashes: row.crashes,
  dueAt: row.state === "ready" || row.state === "scheduled" ? utc(row.dueAt) : null,
  leasedUntil: isInFlight(row, now) ? utcOrNull(row.leaseUntil) : null,
  leasedBy: isInFlight(row, now) ? row.leasedBy ?? null : null,
  parkedFor: row.parkedFor ?? null
})

/** Returns a function that gives the call of the oldest chunk before a given one of the same ordering key. */
export const makeBehind = (access: Access, deadBlocksKey: boolean) => {
  const first = new Map<string, QueueRow | DeadRow>()
  for (const one of [...access.values(queue), ...deadBlocksKey ? access.values(dead).filter(isOpen) : []]) {
    const key = keyOf(one)
    if (key === undefined) continue
    const before = first.get(key)
    if (before === undefined || one.seq < before.seq) first.set(key, one)
  }
  return (row: QueueRow): string | null => {
    const key = keyOf(row)
    const oldest = key === undefined ? undefined : first.get(key)
    return oldest === undefined || oldest.seq >= row.seq ? null : oldest.key.callId
  }
}
const isOpen = (row: DeadRow): boolean => row.discarded === undefined

const deadView = (row: DeadRow): Partial<ChunkView> & Pick<ChunkView, "state"> => ({
  state: row.discarded === undefined ? "dead" : "discarded",
  attempts: row.attempts,
  crashes: row.crashes,
  death: { reason: row.reason, message: row.message, at: utc(row.diedAt) }
})

const ledgerView = (row: LedgerRow): Partial<ChunkView> & Pick<ChunkView, "state"> => ({
  state: row.objects.length === 0 ? "nothing-to-create" : "persisted"
})

/** Calls whose answer did not fit, the latest first. */
export const invalid = (access: Access, { limit, namespace }: InvalidRequest): ReadonlyArray<InvalidCall> => {
  const rows = access.values(calls).filter((row) =>
    row.status === "invalid" && row.erasure === undefined && (namespace === undefined || row.namespace === namespace)
  )
  const at = (row: CallRow) => row.finishedAt ?? row.recordedAt
  return [...rows].sort((a, b) => at(b) - at(a) || (a.callId < b.callId ? 1 : -1)).slice(0, limit).map((row) => ({
    callId: row.callId,
    namespace: row.namespace,
    service: row.service,
    error: row.error ?? "",
    finishedAt: utc(at(row)),
    attempts: row.attempts.length,
    kept: row.attempts.some(({ text }) => text !== null)
  }))
}

/** A call and the state of each of its chunks, in the order of its outputs. */
export const call = (
  access: Access,
  callId: string,
  now: number,
  deadBlocksKey: boolean
): CallView | undefined => {
  const row = access.get(calls, callId)
  if (row === undefined) return undefined
  const outstanding = access.values(queue).filter((one) => one.key.callId === callId)
  const buried = access.values(dead).filter((one) => one.key.callId === callId)
  const persisted = access.values(ledger).filter((one) => one.key.callId === callId)
  // a chunk redriven after it was persisted is in both: its current state comes first
  const current = new Set([...outstanding, ...buried].map((one) => chunkKey(one.key)))
  const behind = makeBehind(access, deadBlocksKey)
  const places = new Map(row.outputs?.map((output, index) => [`${output.schema}#${output.part ?? ""}`, index]))
  const placeOf = ({ key }: LedgerRow) => places.get(`${key.schemaIdentity}#${key.part}`) ?? row.outputs?.length ?? 0
  const failed = Map.groupBy(
    access.values(failures).filter((one) => one.key.callId === callId).sort(byId),
    (one) => chunkKey(one.key)
  )
  const chunks = [
    ...outstanding.map((one) => (
      { one, place: one.position, view: { ...outstandingView(one, now), behind: behind(one) } }
    )),
    ...buried.map((one) => ({ one, place: one.position, view: deadView(one) })),
    ...persisted.filter((one) => !current.has(chunkKey(one.key))).map((one) => (
      { one, place: placeOf(one), view: ledgerView(one) }
    ))
  ]
  return {
    callId,
    namespace: row.namespace,
    service: row.service,
    correlationId: row.correlationId,
    status: row.status,
    error: row.error ?? null,
    recordedAt: utc(row.recordedAt),
    finishedAt: utcOrNull(row.finishedAt),
    context: copy(row.context),
    trace: row.trace === undefined ? null : { traceId: row.trace.traceId, spanId: row.trace.spanId },
    erasure: row.erasure ?? null,
    facts: copy(row.facts),
    attempts: row.attempts.map((attempt) => ({ ...attempt, facts: copy(attempt.facts) })),
    outputs: row.outputs === undefined ? null : copy(row.outputs),
    chunks: chunks.sort((a, b) => a.place - b.place).map(({ one, view }): ChunkView => {
      const entry = access.get(ledger, chunkKey(one.key))
      return {
        key: one.key,
        namespace: one.namespace,
        schemaVersion: one.schemaVersion,
        attempts: 0,
        crashes: 0,
        dueAt: null,
        leasedUntil: null,
        leasedBy: null,
        parkedFor: null,
        orderingKey: ("orderingKey" in one ? one.orderingKey : row.orderingKey) ?? null,
        behind: null,
        death: null,
        ...view,
        failures: failed.get(chunkKey(one.key))?.map(toFailure) ?? [],
        ledger: entry === undefined ? null : toEntry(entry)
      }
    })
  }
}

type Counts = {
  -readonly [K in Exclude<keyof KindStatus, "namespace" | "schemaIdentity" | "oldest" | "newestVersion" | "about">]:
    number
}

const columnOf = (row: QueueRow, now: number): keyof Counts => isInFlight(row, now) ? "inFlight" : row.state

/** Counts by kind. */
export const status = (access: Access, now: number): ReadonlyArray<KindStatus> => {
  interface Kind {
    readonly row: KindStatus
    readonly counts: Counts
    oldest: number | undefined
    newest: number | undefined
  }
  const kinds = new Map<string, Kind>()
  const of = (namespace: string, schemaIdentity: string) => {
    const name = JSON.stringify([namespace, schemaIdentity])
    const known = kinds.get(name)
    if (known !== undefined) return known
    const counts: Counts = {
      ready: 0,
      due: 0,
      inFlight: 0,
      scheduled: 0,
      waiting: 0,
      parked: 0,
      dead: 0,
      persisted: 0
    }
    const row = { namespace, schemaIdentity, ...counts, newestVersion: null, oldest: null, about: false }
    const made: Kind = { row, counts, oldest: undefined, newest: undefined }
    kinds.set(name, made)
    return made
  }
  for (const row of access.values(queue)) {
    const kind = of(row.namespace, row.key.schemaIdentity)
    kind.counts[columnOf(row, now)]++
    if (!isInFlight(row, now) && (row.state === "ready" || (row.state === "scheduled" && row.dueAt <= now))) {
      kind.counts.due++
    }
    kind.oldest = Math.min(kind.oldest ?? row.recordedAt, row.recordedAt)
    kind.newest = Math.max(kind.newest ?? row.schemaVersion, row.schemaVersion)
  }
  for (const row of access.values(dead)) {
    if (row.discarded === undefined) of(row.namespace, row.key.schemaIdentity).counts.dead++
  }
  for (const row of access.values(ledger)) of(row.namespace, row.key.schemaIdentity).counts.persisted++
  const name = (row: KindStatus) => `${row.namespace} ${row.schemaIdentity}`
  return [...kinds.values()]
    .map(({ counts, newest, oldest, row }): KindStatus => ({
      ...row,
      ...counts,
      newestVersion: newest ?? null,
      oldest: utcOrNull(oldest)
    }))
    .sort((a, b) => (name(a) < name(b) ? -1 : 1))
}

/** When the next chunk becomes claimable. */
export const nextDue = (access: Access, now: number): number | undefined => {
  const times = access.values(queue).flatMap((row) =>
    row.state === "ready" ? [row.leaseUntil ?? now] : row.state === "scheduled" ? [row.dueAt] : []
  )
  return times.length === 0 ? undefined : Math.min(...times)
}
