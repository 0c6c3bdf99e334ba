/**
 * Hints between processes, by NOTIFY. Sent by a fiber of its own, outside every transaction and, when much is recorded, at
 * most twenty times a second: a commit with a NOTIFY in it takes a lock that all such commits of a server share.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import type { SqlClient } from "effect/sql/SqlClient"
import type * as Settings from "../../Settings.ts"
import { makeLocal, type Topic, WakeUp } from "../../WakeUp.ts"
import { within } from "../within.ts"
import { hear, placeOf } from "./listening.ts"
import { clientOf, isSingle } from "./session.ts"

/**
 * How long after one NOTIFY the next is sent at the earliest, in milliseconds. Workers that have much to do look by
 * themselves and need few hints; a worker that has little waits for each. So the gap grows while several hints come in
 * it, and shrinks when none does.
 */
const shortestGap = 2
const longestGap = 50
/** How long a closing layer waits for its last NOTIFY. */
const patience = Duration.seconds(1)
/** How long a NOTIFY may take: a connection that is silent must not hold up all that come after it. */
const longest = Duration.seconds(5)
/** How often the listener's connection is asked for a sign of life when workers beat at every cycle only. */
const usualBeat = Duration.seconds(10)

const topics: ReadonlyArray<Topic> = ["chunks", "events", "pauses"]

/** Gives a topic's hint to other processes, soon. */
const makeSender = Effect.fnUntraced(function*(sql: SqlClient, channel: string, me: string) {
  const pending = new Set<Topic>()
  let gap = shortestGap
  let hints = 0
  const asked = yield* Latch.make(false)

  const sendPending = Effect.suspend(() => {
    const sending = [...pending]
    pending.clear()
    if (sending.length === 0) return Effect.void
    const payloads = sending.map((topic) => `${topic} ${me}`)
    return sql`select pg_catalog.pg_notify(${channel}, payload) from pg_catalog.unnest(${payloads}::pg_catalog.text[]) payload`
      .pipe(
        // it took too long: again, by another connection
        Effect.onInterrupt(() =>
          Effect.suspend(() => {
            sending.forEach((topic) => pending.add(topic))
            return asked.open
          })
        ),
        Effect.asVoid,
        // lost, as hints may be
        Effect.catchCause((cause) => Effect.logDebug("no hint was sent to other processes", cause))
      )
  })
  // before the fiber, so that it runs after it: a program that records and ends still tells the others
  yield* Effect.addFinalizer(() => within(patience)(sendPending))
  yield* Effect.gen(function*() {
    yield* asked.await
    yield* asked.close
    yield* within(longest)(sendPending)
    hints = 0
    yield* Effect.sleep(gap)
    if (hints > 1) gap = Math.min(gap * 2, longestGap)
    else if (hints === 0) gap = Math.max(gap / 2, shortestGap)
  }).pipe(Effect.forever, Effect.forkScoped)

  return (topic: Topic) =>
    Effect.suspend(() => {
      pending.add(topic)
      hints++
      return asked.open
    })
})

/**
 * Hints within the process, and between processes where the settings and the client allow. `pooled`: the client is behind a
 * pooler in transaction mode, through which hints can be given and not heard.
 */
export const make = Effect.fnUntraced(function*(sql: SqlClient, settings: Settings.Values, pooled: boolean) {
  const local = yield* makeLocal
  const channel = `${settings.schema}_wake_up`
  // one's own hints come back; they were heard already
  const me = (yield* Random.nextIntBetween(0, 2 ** 48)).toString(36)

  const place = settings.listen ? placeOf(sql, settings, pooled) : undefined
  if (place !== undefined) {
    yield* hear({
      channel,
      place,
      every: Duration.isZero(settings.beatInterval) ? usualBeat : settings.beatInterval,
      send: (payload) => within(longest)(sql`select pg_catalog.pg_notify(${channel}, ${payload})`),
      proof: `proof ${me}`,
      // whatever was said while nobody listened
      onBegin: Effect.forEach(topics, local.hint, { discard: true }),
      onHeard: (payload) => {
        const [topic, sender] = payload.split(" ")
        const known = topics.find((one) => one === topic)
        return known !== undefined && sender !== me ? local.hint(known) : Effect.void
      }
    })
  } else if (settings.listen && pooled) {
    yield* Effect.logInfo(
      "a pooler in transaction mode is in between: hints of other processes are not heard, and work is found by looking, every " +
        `${Duration.format(settings.pollInterval)}. SLUICE_LISTEN_URL takes the server's own address`
    )
  }

  const client = clientOf(sql)
  if (!settings.notify || client === undefined || isSingle(client)) return WakeUp.of(local)
  const send = yield* makeSender(sql, channel, me)
  return WakeUp.of({
    hear: local.hear,
    hint: (topic) => Effect.andThen(local.hint(topic), send(topic))
  })
})
