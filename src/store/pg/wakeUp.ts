/**
 * Hints between processes, by NOTIFY. Sent by a fiber of its own, outside every transaction and, when much is recorded, at
 * most twenty times a second: a commit with a NOTIFY in it takes a lock that all such commits of a server share.
 * Heard on a connection of its own, so that no pool is a connection short.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { SqlClient } from "effect/sql/SqlClient"
import * as RetryPolicy from "../../RetryPolicy.ts"
import type { Settings } from "../../Settings.ts"
import { makeLocal, type Topic, WakeUp } from "../../WakeUp.ts"
import { storeError } from "./errors.ts"

/**
 * How long after one NOTIFY the next is sent at the earliest, in milliseconds. Workers that have much to do look by
 * themselves and need few hints; a worker that has little waits for each. So the gap grows while several hints come in
 * it, and shrinks when none does.
 */
const shortestGap = 2
const longestGap = 50
/** How long a closing layer waits for its last NOTIFY, or for its listener to hang up. */
const patience = Duration.seconds(1)
/** When to listen again after the connection was lost. */
const backoff = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("30 seconds")]).pipe(
  Schedule.jittered
)

const topics: ReadonlyArray<Topic> = ["chunks", "events", "pauses"]

/** The client as `@effect/sql-pg` made it, if it can be listened with and may have a second connection. */
const listening = (sql: SqlClient): PgClient.PgClient | undefined => {
  if (!(PgClient.TypeId in sql)) return undefined
  // that is what the type id says
  const client = sql as PgClient.PgClient
  // one connection, as to the embedded database: a server of one process has nobody to tell, and takes no second client
  const single = "maxConnections" in client.config && client.config.maxConnections === 1
  return single ? undefined : client
}

/** Hints within the process, and between processes where the settings and the client allow. */
export const make = Effect.fnUntraced(function*(sql: SqlClient, settings: Settings) {
  const local = yield* makeLocal
  const client = settings.notify ? listening(sql) : undefined
  if (client === undefined) return WakeUp.of(local)

  const channel = `${settings.schema}_wake_up`
  // one's own hints come back; they were heard already
  const me = (yield* Random.nextIntBetween(0, 2 ** 48)).toString(36)
  const pending = new Set<Topic>()
  let gap = shortestGap
  let hints = 0
  const asked = yield* Latch.make(false)

  const sendPending = Effect.suspend(() => {
    const sending = [...pending]
    pending.clear()
    if (sending.length === 0) return Effect.void
    const payloads = sending.map((topic) => `${topic} ${me}`)
    return sql`select pg_notify(${channel}, payload) from unnest(${payloads}::text[]) payload`.pipe(
      Effect.onInterrupt(() => Effect.sync(() => sending.forEach((topic) => pending.add(topic)))),
      Effect.asVoid,
      // lost, as hints may be
      Effect.catchCause((cause) => Effect.logDebug("no hint was sent to other processes", cause))
    )
  })
  // before the fiber, so that it runs after it: a program that records and ends still tells the others
  yield* Effect.addFinalizer(() => Effect.timeoutOption(sendPending, patience))
  yield* Effect.gen(function*() {
    yield* asked.await
    yield* asked.close
    yield* sendPending
    hints = 0
    yield* Effect.sleep(gap)
    if (hints > 1) gap = Math.min(gap * 2, longestGap)
    else if (hints === 0) gap = Math.max(gap / 2, shortestGap)
  }).pipe(Effect.forever, Effect.forkScoped)

  let failures = 0
  const listen = Effect.scoped(Effect.gen(function*() {
    const connection = yield* PgConnection.make({ ...client.config, applicationName: "effect-sluice listener" })
    const heard = yield* connection.listen(channel)
    if (failures > 0) yield* Effect.logInfo("hints of other processes are heard again")
    failures = 0
    // whatever was said while nobody listened
    yield* Effect.forEach(topics, local.hint, { discard: true })
    while (true) {
      const { payload } = yield* Queue.take(heard)
      const [topic, sender] = payload.split(" ")
      const known = topics.find((one) => one === topic)
      if (known !== undefined && sender !== me) yield* local.hint(known)
    }
  })).pipe(
    Effect.catch((error) =>
      Effect.gen(function*() {
        failures++
        // told of once, not at every try
        if (failures === 1) {
          const { message } = storeError("listen")(error)
          yield* Effect.logWarning(`hints of other processes are not heard now; looking without them: ${message}`)
        }
        yield* Effect.sleep(yield* RetryPolicy.delayAfter(backoff, Math.min(failures, 20)))
      })
    ),
    Effect.forever
  )
  // a connection that hangs must not keep the program from ending
  yield* Effect.acquireRelease(
    Effect.forkDetach(listen),
    (fiber) => Effect.timeoutOption(Fiber.interrupt(fiber), patience)
  )

  return WakeUp.of({
    hear: local.hear,
    hint: (topic) =>
      Effect.andThen(
        local.hint(topic),
        Effect.suspend(() => {
          pending.add(topic)
          hints++
          return asked.open
        })
      )
  })
})
