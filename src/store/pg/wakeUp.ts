/**
 * Sends hints between processes by NOTIFY. A separate fiber sends them outside every transaction and, under load, at most
 * twenty times a second those of chunks, and as often the others: a commit with a NOTIFY takes a lock that all such commits
 * of a server share.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type { SqlClient } from "effect/sql/SqlClient"
import type * as Settings from "../../Settings.ts"
import { makeLocal, type Topic, WakeUp } from "../../WakeUp.ts"
import { within } from "../within.ts"
import { hear, placeOf } from "./listening.ts"
import { clientOf, isSingle } from "./session.ts"

/**
 * The least time between two NOTIFYs, in milliseconds. Busy workers poll anyway and need few hints; an idle worker waits for
 * each. So the gap grows while several hints arrive within it, and shrinks when none does. Nobody waits for the other hints
 * in this way, and a NOTIFY for each call would cost programs that persist one call after another a tenth of their time.
 */
const shortestGap = { chunks: 2, others: 10 }
const longestGap = 50
/** How long a closing layer waits for its last NOTIFY. */
const timeout = Duration.seconds(1)
/** How long a NOTIFY may take: a silent connection must not delay all later ones. */
const longest = Duration.seconds(5)
/** The interval of checks of the listener's connection if workers beat only at every cycle. */
const usualBeat = Duration.seconds(10)

const topics: ReadonlyArray<Topic> = ["chunks", "events", "pauses"]

/**
 * Sends hints. The commit does not wait for the disk, because a hint may be lost: other sessions are told sooner, and the
 * lock that commits with a NOTIFY share is held for less time.
 */
const notify = (sql: SqlClient, channel: string, payloads: ReadonlyArray<string>) =>
  sql`select pg_catalog.set_config('synchronous_commit', 'off', true), pg_catalog.pg_notify(${channel}, payload)
    from pg_catalog.unnest(${payloads}::pg_catalog.text[]) payload`

/** Sends the hints of some topics to other processes, at once if none was sent just before. */
const makeSender = Effect.fnUntraced(function*(
  sql: SqlClient,
  { channel, me, of }: { readonly channel: string; readonly me: string; readonly of: keyof typeof shortestGap }
) {
  const scope = yield* Effect.scope
  const context = yield* Effect.context<never>()
  const pending = new Set<Topic>()
  const shortest = shortestGap[of]
  let gap = shortest
  let hints = 0
  let isSending = false

  const sendPending = Effect.suspend(() => {
    const sending = [...pending]
    pending.clear()
    if (sending.length === 0) return Effect.void
    const keep = Effect.sync(() => sending.forEach((topic) => pending.add(topic)))
    return notify(sql, channel, sending.map((topic) => `${topic} ${me}`)).pipe(
      // the layer closes, and sends it once more
      Effect.onInterrupt(() => keep),
      // the hint is lost, which hints may be
      Effect.catchCause((cause) => Effect.logDebug("no hint was sent to other processes", cause)),
      within(longest),
      // it took too long: send it again, on another connection
      Effect.tap((sent) => Option.isNone(sent) ? keep : Effect.void)
    )
  })
  // added before any fiber starts, so it runs after these end: a program that records and ends still sends its hints
  yield* Effect.addFinalizer(() => within(timeout)(sendPending))
  const send = Effect.gen(function*() {
    while (pending.size > 0) {
      yield* sendPending
      hints = 0
      yield* Effect.sleep(gap)
      if (hints > 1) gap = Math.min(gap * 2, longestGap)
      else if (hints === 0) gap = Math.max(gap / 2, shortest)
    }
    // in the same step as the check: no hint comes in between
    isSending = false
  }).pipe(
    // not in the caller's transaction, span or trace
    Effect.updateContext<never, never>(() => context)
  )

  return (topic: Topic) =>
    Effect.suspend(() => {
      pending.add(topic)
      hints++
      if (isSending) return Effect.void
      isSending = true
      // a worker waits for chunks: what the caller still has to do comes after this. Events go to the listeners here first.
      return Effect.asVoid(Effect.forkIn(send, scope, { startImmediately: of === "chunks" }))
    })
})

/**
 * Hints within the process, and between processes if settings and client allow. `pooled`: the client is behind a pooler in
 * transaction mode, through which hints can be sent but not received.
 */
export const make = Effect.fnUntraced(function*(sql: SqlClient, settings: Settings.Values, pooled: boolean) {
  const local = yield* makeLocal
  const channel = `${settings.schema}_wake_up`
  // a process also receives its own hints, and skips them
  const me = (yield* Random.nextIntBetween(0, 2 ** 48)).toString(36)

  const place = settings.listen ? placeOf(sql, settings, pooled) : undefined
  if (place !== undefined) {
    yield* hear({
      channel,
      place,
      every: Duration.isZero(settings.beatInterval) ? usualBeat : settings.beatInterval,
      send: (payload) => within(longest)(notify(sql, channel, [payload])),
      proof: `proof ${me}`,
      // hints may have been missed while the connection was down
      onBegin: Effect.forEach(topics, local.hint, { discard: true }),
      onHeard: (payload) => {
        const [topic, sender] = payload.split(" ")
        const known = topics.find((one) => one === topic)
        return known !== undefined && sender !== me ? local.hint(known) : Effect.void
      }
    })
  } else if (settings.listen && pooled) {
    yield* Effect.logInfo(
      "a pooler in transaction mode is in between: no hints from other processes arrive; workers look for work every " +
        `${Duration.format(settings.pollInterval)}. SLUICE_LISTEN_URL takes the server's own address`
    )
  }

  const client = clientOf(sql)
  if (!settings.notify || client === undefined || isSingle(client)) return WakeUp.of(local)
  const sendChunks = yield* makeSender(sql, { channel, me, of: "chunks" })
  const sendOthers = yield* makeSender(sql, { channel, me, of: "others" })
  return WakeUp.of({
    hear: local.hear,
    hint: (topic) => Effect.andThen(local.hint(topic), topic === "chunks" ? sendChunks(topic) : sendOthers(topic))
  })
})
