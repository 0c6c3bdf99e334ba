/**
 * What subscribers do: programs that sessions run beside each other.
 */
import { EventLog } from "effect-sluice"
import type { Feed } from "effect-sluice/EventLog"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { keyOf } from "../contract/operators/dialogues.ts"
import { lease } from "./draining.ts"
import type { Env } from "./session.ts"

const named: Readonly<Record<Feed, string>> = { objects: "audit", calls: "ends" }

/** Takes what there is to be told, and moves on. Says whether there was something. */
export const subscribe = (feed: Feed): Effect.Effect<boolean, unknown, Env> =>
  Effect.gen(function*() {
    const log = yield* EventLog.EventLog
    const name = named[feed]
    yield* log.open(name, "beginning", feed)
    const taken = yield* log.take(name, { feed, limit: 100, maxBytes: 1e9, lease, reader: "w" })
    if (Option.isNone(taken)) return false
    const { entries, token } = taken.value
    const sql = yield* SqlClient.SqlClient
    const told = feed === "objects"
      ? entries.flatMap(({ events }) => events.map(({ key }) => key.callId))
      : entries.flatMap(({ ended }) => ended?.callId ?? [])
    yield* feed === "objects"
      ? sql`insert into told (call_id) select * from unnest(${told}::text[])`
      : sql`insert into told_end (call_id) select * from unnest(${told}::text[])`
    yield* log.advance(name, token, { place: entries.at(-1)!.place, suspects: 0 }, lease)
    yield* log.release(name, token, { suspects: 0 })
    return true
  })

/** Has the subscription pass over a call, if that is the next. */
export const skip = (id: string) => EventLog.EventLog.use((log) => log.skip(named.objects, keyOf(id), "no"))

/** Begins again. */
export const reset = EventLog.EventLog.use((log) => log.reset(named.objects, "beginning"))

/** Removes the subscription. */
export const remove = EventLog.EventLog.use((log) => log.remove(named.objects))
