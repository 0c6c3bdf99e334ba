/**
 * The ledger and the ends of calls as logs, in memory. The tables' lines are in commit order; a place is the number of a
 * line. There is only one cluster and nothing to rebase.
 */
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { LeaseLost } from "../../ChunkStore.ts"
import {
  EntryTooLarge,
  EventLog,
  type Feed,
  feedOf,
  type From,
  keyOfEnd,
  type LogEntry,
  mostEntryBytes,
  type Page,
  type Place,
  type SubscriptionStatus,
  type Taken
} from "../../EventLog.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import type { Access } from "../MemoryDatabase.ts"
import { utc } from "./read.ts"
import {
  type CallEndRow,
  callEnds,
  calls,
  chunkKey,
  copy,
  ledger,
  type LedgerRow,
  type SubscriptionRow,
  subscriptions,
  type Use
} from "./rows.ts"

const mostBehind = 10_000

const placeOf = (line: number): Place => ({ xact: "0", seq: String(line) })

/** A line of a log. */
interface Line {
  /** Its number. Those of the ledger, of which no line is ever deleted, are numbered from 1. */
  readonly place: number
  readonly key: ChunkKey
  readonly at: number
  readonly told: LedgerRow | CallEndRow
}

/** The lines of a feed after a place, in order. */
export const linesOf = (access: Access, feed: Feed, after = 0): ReadonlyArray<Line> =>
  feed === "objects"
    ? access.values(ledger).slice(after).map((told, index) => ({
      place: after + index + 1,
      key: told.key,
      at: told.persistedAt,
      told
    }))
    : access.values(callEnds).filter(({ place }) => place > after).map((told) => ({
      place: told.place,
      key: keyOfEnd(told.callId),
      at: told.endedAt,
      told
    }))

const toEntry = (access: Access, { key: { callId }, place, told }: Line): LogEntry => {
  const call = access.get(calls, callId)
  const ofCall = {
    service: call?.service ?? "",
    correlationId: call?.correlationId ?? callId,
    context: copy(call?.context ?? {})
  }
  if ("objects" in told) {
    const { handler, key, namespace, objects } = told
    return {
      place: placeOf(place),
      events: objects.map((object) => ({ object, key, namespace, handler, ...ofCall, context: copy(ofCall.context) }))
    }
  }
  const { dead, endedAt, persisted } = told
  return {
    place: placeOf(place),
    events: [],
    ended: { callId, namespace: call?.namespace ?? "", ...ofCall, persisted, dead, endedAt: utc(endedAt) }
  }
}

/** The approximate size of the entry as text, in bytes. */
const bytesOf = (access: Access, { key, told }: Line): number =>
  JSON.stringify("objects" in told ? told.objects : []).length +
  JSON.stringify(access.get(calls, key.callId)?.context ?? {}).length

/** The entries of a take: as many as `maxBytes` allows, but always the first. */
const within = (access: Access, lines: ReadonlyArray<Line>, maxBytes: number): ReadonlyArray<Line> => {
  let bytes = 0
  const fitting = lines.findIndex((line, index) => {
    const size = bytesOf(access, line)
    bytes += size
    return index > 0 && (bytes > maxBytes || size > mostEntryBytes)
  })
  return fitting === -1 ? lines : lines.slice(0, fitting)
}

/** The entries of lines. */
const pageOf = (access: Access, lines: ReadonlyArray<Line>): Page => {
  const [first] = lines
  const bytes = first === undefined ? 0 : bytesOf(access, first)
  return first !== undefined && bytes > mostEntryBytes
    ? { entries: [], unreadable: { place: placeOf(first.place), key: first.key, bytes } }
    : { entries: lines.map((line) => toEntry(access, line)), unreadable: undefined }
}

const isHeld = (row: SubscriptionRow, now: number): boolean => row.leaseUntil !== undefined && row.leaseUntil >= now

const released = { token: undefined, leaseUntil: undefined, leasedBy: undefined }
const unsuspected = { attempts: 0, suspects: 0, lastError: undefined }

const statusOf = (access: Access, now: number) => (row: SubscriptionRow): SubscriptionStatus => {
  const unread = linesOf(access, row.feed, row.place)
  const [next] = unread
  return {
    name: row.name,
    feed: row.feed,
    attempts: row.attempts,
    suspects: row.leaseUntil === undefined ? row.suspects : 0,
    lastError: row.lastError ?? null,
    dueAt: utc(row.dueAt),
    updatedAt: utc(row.updatedAt),
    reader: isHeld(row, now) ? { id: row.leasedBy ?? "", until: utc(row.leaseUntil ?? now) } : null,
    behind: Math.min(mostBehind, unread.length),
    next: next === undefined ? null : { key: next.key, persistedAt: utc(next.at) },
    skipped: row.skipped
  }
}

const startOf = (access: Access, feed: Feed, to: From | DateTime.Utc): number => {
  if (to === "beginning") return 0
  const lines = linesOf(access, feed)
  const first = to === "now" ? undefined : lines.find((line) => line.at >= to.epochMilliseconds)
  return first === undefined ? lines.at(-1)?.place ?? 0 : first.place - 1
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
    open: (name, from, feed = "objects") =>
      use((access, now) => {
        const there = access.get(subscriptions, name)
        if (there !== undefined) return there.feed
        access.set(subscriptions, name, {
          name,
          feed,
          place: startOf(access, feed, from),
          ...released,
          ...unsuspected,
          dueAt: now,
          updatedAt: now,
          skipped: 0
        })
        return feed
      }),
    take: (name, { feed = "objects", lease, limit, maxBytes, reader }) =>
      Effect.flatMap(newToken, (token) =>
        use((access, now): Option.Option<Taken> => {
          const row = access.get(subscriptions, name)
          if (row === undefined || row.feed !== feed || row.dueAt > now || isHeld(row, now)) return Option.none()
          const most = row.attempts > 0 ? 1 : row.suspects > 0 ? Math.ceil(row.suspects / 2) : limit
          const lines = within(
            access,
            linesOf(access, feed, row.place).slice(0, Math.min(limit, most)),
            maxBytes
          )
          if (lines.length === 0) return Option.none()
          const { entries, unreadable } = pageOf(access, lines)
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
        const start = Math.min(Number(after.seq), access.values(ledger).length)
        return pageOf(access, within(access, linesOf(access, "objects", start).slice(0, limit), maxBytes))
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
        .map(statusOf(access, now))
        .sort((a, b) => (a.name < b.name ? -1 : 1))
    ),
    reset: (name, to) =>
      change(name, () => true, ({ feed }, now, access) => ({
        ...released,
        ...unsuspected,
        place: startOf(access, feed, to),
        dueAt: now,
        updatedAt: now
      })),
    skip: (name, key) =>
      use((access, now) => {
        const row = access.get(subscriptions, name)
        const [next] = row === undefined || row.feed !== feedOf(key) ? [] : linesOf(access, row.feed, row.place)
        if (row === undefined || next === undefined || chunkKey(next.key) !== chunkKey(key)) return false
        access.set(subscriptions, name, {
          ...row,
          ...released,
          ...unsuspected,
          place: next.place,
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
