/**
 * The ledger as a log, in memory. The table's lines are in commit order, so a place is a number of lines. There is only one
 * cluster and nothing to rebase.
 */
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { LeaseLost } from "../../ChunkStore.ts"
import {
  EntryTooLarge,
  EventLog,
  type From,
  type LogEntry,
  mostEntryBytes,
  type Page,
  type Place,
  type SubscriptionStatus,
  type Taken
} from "../../EventLog.ts"
import type { Access } from "../MemoryDatabase.ts"
import { utc } from "./read.ts"
import { calls, chunkKey, copy, ledger, type LedgerRow, type SubscriptionRow, subscriptions, type Use } from "./rows.ts"

const mostBehind = 10_000

const placeOf = (lines: number): Place => ({ xact: "0", seq: String(lines) })

const toEntry = (access: Access, row: LedgerRow, lines: number): LogEntry => {
  const call = access.get(calls, row.key.callId)
  return {
    place: placeOf(lines),
    events: row.objects.map((object) => ({
      object,
      key: row.key,
      namespace: row.namespace,
      handler: row.handler,
      service: call?.service ?? "",
      correlationId: call?.correlationId ?? row.key.callId,
      context: copy(call?.context ?? {})
    }))
  }
}

/** The approximate size of the entry as text, in bytes. */
const bytesOf = (access: Access, row: LedgerRow): number =>
  JSON.stringify(row.objects).length + JSON.stringify(access.get(calls, row.key.callId)?.context ?? {}).length

/** The entries of a take: as many as `maxBytes` allows, but always the first. */
const within = (access: Access, lines: ReadonlyArray<LedgerRow>, maxBytes: number): ReadonlyArray<LedgerRow> => {
  let bytes = 0
  const fitting = lines.findIndex((line, index) => {
    const size = bytesOf(access, line)
    bytes += size
    return index > 0 && (bytes > maxBytes || size > mostEntryBytes)
  })
  return fitting === -1 ? lines : lines.slice(0, fitting)
}

/** The entries of lines that come after so many. */
const pageOf = (access: Access, lines: ReadonlyArray<LedgerRow>, before: number): Page => {
  const [first] = lines
  const bytes = first === undefined ? 0 : bytesOf(access, first)
  return first !== undefined && bytes > mostEntryBytes
    ? { entries: [], unreadable: { place: placeOf(before + 1), key: first.key, bytes } }
    : { entries: lines.map((line, index) => toEntry(access, line, before + index + 1)), unreadable: undefined }
}

const isHeld = (row: SubscriptionRow, now: number): boolean => row.leaseUntil !== undefined && row.leaseUntil >= now

const released = { token: undefined, leaseUntil: undefined, leasedBy: undefined }
const unsuspected = { attempts: 0, suspects: 0, lastError: undefined }

const statusOf = (lines: ReadonlyArray<LedgerRow>, now: number) => (row: SubscriptionRow): SubscriptionStatus => {
  const next = lines[row.place]
  return {
    name: row.name,
    attempts: row.attempts,
    suspects: row.leaseUntil === undefined ? row.suspects : 0,
    lastError: row.lastError ?? null,
    dueAt: utc(row.dueAt),
    updatedAt: utc(row.updatedAt),
    reader: isHeld(row, now) ? { id: row.leasedBy ?? "", until: utc(row.leaseUntil ?? now) } : null,
    behind: Math.min(mostBehind, lines.length - row.place),
    next: next === undefined ? null : { key: next.key, persistedAt: utc(next.persistedAt) },
    skipped: row.skipped
  }
}

const startOf = (lines: ReadonlyArray<LedgerRow>, to: From | DateTime.Utc): number => {
  if (to === "beginning") return 0
  if (to === "now") return lines.length
  const first = lines.findIndex((line) => line.persistedAt >= to.epochMilliseconds)
  return first === -1 ? lines.length : first
}

/** The service in memory. */
export const make = (use: Use, newToken: Effect.Effect<string>): EventLog["Service"] => {
  /** Changes a subscription if it exists and `may` allows it. */
  const change = (
    name: string,
    may: (row: SubscriptionRow) => boolean,
    how: (row: SubscriptionRow, now: number, access: Access) => Partial<SubscriptionRow>
  ) =>
    use((access, now) => {
      const row = access.get(subscriptions, name)
      if (row === undefined || !may(row)) return false
      access.set(subscriptions, name, { ...row, ...how(row, now, access) })
      return true
    })
  const heldBy = (token: string) => (row: SubscriptionRow) => row.token === token

  return EventLog.of({
    open: (name, from) =>
      use((access, now) => {
        if (access.get(subscriptions, name) !== undefined) return
        access.set(subscriptions, name, {
          name,
          place: startOf(access.values(ledger), from),
          ...released,
          ...unsuspected,
          dueAt: now,
          updatedAt: now,
          skipped: 0
        })
      }),
    take: (name, { lease, limit, maxBytes, reader }) =>
      Effect.flatMap(newToken, (token) =>
        use((access, now): Option.Option<Taken> => {
          const row = access.get(subscriptions, name)
          if (row === undefined || row.dueAt > now || isHeld(row, now)) return Option.none()
          const most = row.attempts > 0 ? 1 : row.suspects > 0 ? Math.ceil(row.suspects / 2) : limit
          const lines = within(
            access,
            access.values(ledger).slice(row.place, row.place + Math.min(limit, most)),
            maxBytes
          )
          if (lines.length === 0) return Option.none()
          const { entries, unreadable } = pageOf(access, lines, row.place)
          access.set(subscriptions, name, {
            ...row,
            token,
            leaseUntil: now + Duration.toMillis(lease),
            leasedBy: reader,
            suspects: lines.length
          })
          return Option.some({
            token,
            place: placeOf(row.place),
            entries,
            unreadable: unreadable === undefined ? undefined : new EntryTooLarge({ subscription: name, ...unreadable }),
            attempts: row.attempts,
            suspects: row.suspects
          })
        })),
    now: use((access) => placeOf(access.values(ledger).length)),
    read: (after, { limit, maxBytes }) =>
      use((access) => {
        const all = access.values(ledger)
        const start = Math.min(Number(after.seq), all.length)
        return pageOf(access, within(access, all.slice(start, start + limit), maxBytes), start)
      }),
    advance: (name, token, { place, suspects }, lease) =>
      Effect.flatMap(
        change(name, heldBy(token), (row, now) => ({
          ...(row.place === Number(place.seq) ? {} : unsuspected),
          place: Number(place.seq),
          suspects,
          leaseUntil: now + Duration.toMillis(lease),
          updatedAt: now
        })),
        (held) => held ? Effect.void : Effect.fail(new LeaseLost({ claimed: 1, held: 0 }))
      ),
    release: (name, token, { failure, suspects }) =>
      Effect.asVoid(change(name, heldBy(token), (row, now) => ({
        ...released,
        suspects,
        ...(failure === undefined ? {} : { lastError: failure.message, updatedAt: now }),
        ...(failure === undefined || suspects > 1
          ? {}
          : { attempts: row.attempts + 1, dueAt: now + Duration.toMillis(failure.delay) })
      }))),
    list: use((access, now) =>
      access.values(subscriptions)
        .map(statusOf(access.values(ledger), now))
        .sort((a, b) => (a.name < b.name ? -1 : 1))
    ),
    reset: (name, to) =>
      change(name, () => true, (_, now, access) => ({
        ...released,
        ...unsuspected,
        place: startOf(access.values(ledger), to),
        dueAt: now,
        updatedAt: now
      })),
    skip: (name, key) =>
      use((access, now) => {
        const row = access.get(subscriptions, name)
        const next = row === undefined ? undefined : access.values(ledger)[row.place]
        if (row === undefined || next === undefined || chunkKey(next.key) !== chunkKey(key)) return false
        access.set(subscriptions, name, {
          ...row,
          ...released,
          ...unsuspected,
          place: row.place + 1,
          dueAt: now,
          updatedAt: now,
          skipped: row.skipped + 1
        })
        return true
      }),
    remove: (name) =>
      use((access) => {
        const found = access.get(subscriptions, name) !== undefined
        access.delete(subscriptions, name)
        return found
      }),
    rebase: Effect.succeed({ outcome: "ours", moved: 0, repeated: 0 })
  })
}
