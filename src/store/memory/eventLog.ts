/**
 * The ledger as a log, in memory. Lines stand in the table in the order in which they were committed, so a place is a
 * number of lines.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { LeaseLost } from "../../ChunkStore.ts"
import { EventLog, type LogEntry, type Place, type SubscriptionStatus } from "../../EventLog.ts"
import type { Access } from "../MemoryDatabase.ts"
import { utc } from "./read.ts"
import { calls, copy, ledger, type LedgerRow, type SubscriptionRow, subscriptions } from "./rows.ts"
import type { Use } from "./use.ts"

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

/** The service in memory. */
export const make = (use: Use, newToken: Effect.Effect<string>): EventLog["Service"] => {
  /** Changes a subscription that is still this token's. */
  const change = (name: string, token: string, how: (row: SubscriptionRow, now: number) => Partial<SubscriptionRow>) =>
    use((access, now) => {
      const row = access.get(subscriptions, name)
      if (row?.token !== token) return false
      access.set(subscriptions, name, { ...row, ...how(row, now) })
      return true
    })

  return EventLog.of({
    open: (name, from) =>
      use((access, now) => {
        if (access.get(subscriptions, name) !== undefined) return
        access.set(subscriptions, name, {
          name,
          place: from === "now" ? access.values(ledger).length : 0,
          token: undefined,
          leaseUntil: undefined,
          attempts: 0,
          lastError: undefined,
          dueAt: now,
          updatedAt: now
        })
      }),
    take: (name, { lease, limit }) =>
      Effect.flatMap(newToken, (token) =>
        use((access, now) => {
          const row = access.get(subscriptions, name)
          if (row === undefined || row.dueAt > now) return Option.none()
          if (row.leaseUntil !== undefined && row.leaseUntil >= now) return Option.none()
          const lines = access.values(ledger).slice(row.place, row.place + limit)
          if (lines.length === 0) return Option.none()
          access.set(subscriptions, name, { ...row, token, leaseUntil: now + Duration.toMillis(lease) })
          return Option.some({
            token,
            place: placeOf(row.place),
            entries: lines.map((line, index) => toEntry(access, line, row.place + index + 1)),
            attempts: row.attempts
          })
        })),
    advance: (name, token, place, lease) =>
      Effect.flatMap(
        change(name, token, (row, now) => {
          const stays = row.place === Number(place.seq)
          return {
            place: Number(place.seq),
            leaseUntil: now + Duration.toMillis(lease),
            updatedAt: now,
            attempts: stays ? row.attempts : 0,
            lastError: stays ? row.lastError : undefined
          }
        }),
        (held) => held ? Effect.void : Effect.fail(new LeaseLost({ claimed: 1, held: 0 }))
      ),
    release: (name, token, failure) =>
      Effect.asVoid(change(name, token, (row, now) => ({
        token: undefined,
        leaseUntil: undefined,
        ...(failure === undefined ? {} : {
          attempts: row.attempts + 1,
          lastError: failure.message,
          dueAt: now + Duration.toMillis(failure.delay),
          updatedAt: now
        })
      }))),
    list: use((access) =>
      access.values(subscriptions).map((row): SubscriptionStatus => ({
        name: row.name,
        attempts: row.attempts,
        lastError: row.lastError ?? null,
        dueAt: utc(row.dueAt),
        updatedAt: utc(row.updatedAt),
        behind: Math.min(mostBehind, access.values(ledger).length - row.place)
      })).sort((a, b) => (a.name < b.name ? -1 : 1))
    ),
    remove: (name) =>
      use((access) => {
        const found = access.get(subscriptions, name) !== undefined
        access.delete(subscriptions, name)
        return found
      })
  })
}
