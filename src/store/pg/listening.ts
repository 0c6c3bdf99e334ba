/**
 * Listens for hints on a separate connection, which takes none from the pool. It reconnects until the scope closes.
 */
import { PgConnection } from "@effect/sql-pg"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import { isSqlError } from "effect/sql/SqlError"
import * as RetryPolicy from "../../RetryPolicy.ts"
import type * as Settings from "../../Settings.ts"
import { within } from "../within.ts"
import { storeError } from "./errors.ts"
import { clientOf, isSingle } from "./session.ts"

/** The delays before listening again after the connection was lost. */
const backoff = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("30 seconds")]).pipe(
  Schedule.jittered
)
/** How long to wait for an answer before the connection counts as silent. */
const timeout = Duration.seconds(5)
/** How long it may take to connect. */
const longestConnect = Duration.seconds(30)
/** How long a closing layer waits for the listener to disconnect. */
const goodbye = Duration.seconds(1)

/** The connection is open but delivers nothing. */
class Silent {
  readonly reason: string
  constructor(reason: string) {
    this.reason = reason
  }
}

/**
 * Where to listen: the configured address, or the client's own. Undefined for a client with a single connection, which is
 * one to the embedded database: no other process can send hints, and it accepts no second client.
 */
export const placeOf = (
  sql: SqlClient,
  { listenUrl }: Pick<Settings.Values, "listenUrl">,
  pooled: boolean
): PgConnection.Config | undefined => {
  const client = clientOf(sql)
  const keepAlive = client?.config.keepAlive ?? "30 seconds"
  if (listenUrl !== undefined) {
    const given = client?.config.ssl
    // TLS settings in the address take precedence
    const ssl = given === undefined || Redacted.value(listenUrl).includes("sslmode=") ? {} : { ssl: given }
    return { url: listenUrl, keepAlive, ...ssl }
  }
  return client === undefined || pooled || isSingle(client) ? undefined : { ...client.config, keepAlive }
}

/** What to listen for, and how to verify that hints arrive. */
export interface Listener {
  readonly channel: string
  readonly place: PgConnection.Config
  /** The interval of checks that the connection is alive. */
  readonly every: Duration.Duration
  /** Sends this payload in the same way as hints. */
  readonly send: (payload: string) => Effect.Effect<unknown, unknown>
  /** A payload that no other process sends. */
  readonly proof: string
  /** Runs when listening begins: later hints arrive; earlier ones may have been missed. */
  readonly onBegin: Effect.Effect<void>
  readonly onHeard: (payload: string) => Effect.Effect<void>
}

/** Listens until the connection fails or is silent. */
const listenOnce = ({ channel, every, onBegin, onHeard, place, proof, send }: Listener, isBack: Effect.Effect<void>) =>
  Effect.acquireUseRelease(
    Effect.all({ connection: Scope.make(), listening: Scope.make() }),
    (scopes) =>
      Effect.gen(function*() {
        const connection = yield* Scope.provide(
          PgConnection.make({ ...place, applicationName: "effect-sluice listener", prepare: false, multiplex: false }),
          scopes.connection
        ).pipe(
          // the client's own limit may be turned off
          Effect.timeoutOrElse({ duration: longestConnect, orElse: () => Effect.fail(new Silent("no connection")) })
        )
        const heard = yield* Effect.gen(function*() {
          const session = yield* connection.pin
          // a session that listens is idle: a limit for idle sessions must not end it
          yield* Effect.ignore(session.query("set idle_session_timeout = 0", [], false))
          return { session, queue: yield* session.listen(channel) }
        }).pipe(
          Scope.provide(scopes.listening),
          Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail(new Silent("no answer to LISTEN")) })
        )
        const proven = yield* Deferred.make<void>()
        const hear = Effect.gen(function*() {
          while (true) {
            const { payload } = yield* Queue.take(heard.queue)
            yield* payload === proof ? Deferred.succeed(proven, undefined) : onHeard(payload)
          }
        })
        const beat = Effect.gen(function*() {
          // LISTEN succeeds through a pooler in transaction mode, but then nothing arrives
          const isSent = yield* Effect.isSuccess(send(proof))
          if (isSent && Option.isNone(yield* Effect.timeoutOption(Deferred.await(proven), timeout))) {
            return yield* Effect.fail(
              new Silent(
                "what is sent is not heard; does the address that is listened on lead to a pooler in transaction mode, or to " +
                  "another database?"
              )
            )
          }
          yield* isBack
          yield* onBegin
          while (true) {
            yield* Effect.sleep(every)
            const answer = yield* within(timeout)(heard.session.query("select 1", [], false))
            if (Option.isNone(answer)) {
              return yield* Effect.fail(new Silent(`its connection has been silent for ${Duration.format(timeout)}`))
            }
          }
        })
        return yield* Effect.raceFirst(hear, beat)
      }),
    // in this order: on a closed connection no statement waits for an answer
    ({ connection, listening }, exit) => Effect.andThen(Scope.close(connection, exit), Scope.close(listening, exit))
  )

/** Listens until the scope closes. Logs once when hints stop arriving, and once when they arrive again. */
export const hear = Effect.fnUntraced(function*(listener: Listener) {
  let failures = 0
  const isBack = Effect.suspend(() => {
    const wasAway = failures > 0
    failures = 0
    return wasAway ? Effect.logInfo("hints from other processes arrive again") : Effect.void
  })
  const listen = Effect.catch(listenOnce(listener, isBack), (error) =>
    Effect.gen(function*() {
      failures++
      // logged once, not at every attempt
      if (failures === 1) {
        const reason = isSqlError(error) ? storeError("listen")(error).message : error.reason
        yield* Effect.logWarning(`hints from other processes do not arrive; workers poll meanwhile: ${reason}`)
      }
      yield* Effect.sleep(yield* RetryPolicy.delayAfter(backoff, Math.min(failures, 20)))
    })).pipe(Effect.forever)
  // a connection that hangs must not keep the program from ending
  yield* Effect.acquireRelease(
    Effect.forkDetach(listen),
    (fiber) => Effect.timeoutOption(Fiber.interrupt(fiber), goodbye)
  )
})
