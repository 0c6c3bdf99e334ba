/**
 * `recordNow` is cut before and after each of its statements. Whatever was cut, the answer is recorded with its rows, or in the
 * queue, or there is nothing of it; and whoever asks again has it persisted once.
 */
import { Drain, type ServiceCall } from "effect-sluice"
import type * as Settings from "effect-sluice/Settings"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { afterAll, beforeAll, expect, it } from "vitest"
import { client, freshDatabase } from "../support/Postgres.ts"
import { type Passing, type Proxy, startProxy } from "./proxy.ts"
import { declaredDrain, drain, prepare, recover, Sign } from "./ward.ts"

const scope = Scope.makeUnsafe()
let proxied = ""
let proxy: Proxy
/** Past the proxy: what the test itself does is not cut. */
let past: ManagedRuntime.ManagedRuntime<SqlClient.SqlClient | Settings.Settings, unknown>
const direct = <A, E>(program: Effect.Effect<A, E, SqlClient.SqlClient | Settings.Settings>) => past.runPromise(program)

const answer: ServiceCall.ServiceCall = {
  callId: "call-now",
  namespace: "clinic",
  service: "services.clinic.ward.take-notes",
  outputs: [{ schema: "schemas.clinic.ward.note", version: 1, data: { text: "now", fails: false } }]
}
/** A way to record and persist an answer, and what its first and its last statement contain. */
interface Way {
  readonly answer: ServiceCall.ServiceCall
  readonly drain: typeof drain
  readonly first: RegExp
  readonly last: RegExp
}
const ways: Readonly<Record<string, Way>> = {
  "one commit": { answer, drain, first: /^begin/i, last: /^commit/i },
  "two, of an ordering key": {
    answer: { ...answer, orderingKey: "bed-1" },
    drain,
    first: / as known/,
    last: /^commit/i
  },
  "one statement, of a declared handler": {
    answer: { ...answer, outputs: [Effect.runSync(Sign.encode({ text: "now" }))] },
    drain: declaredDrain,
    first: / as exact/,
    last: / as exact/
  }
}
const recordNowOf = ({ answer }: Way) => Drain.Drain.use((drain) => drain.recordNow(answer))
const cutRunOf = (way: Way) =>
  Effect.runPromiseExit(
    Effect.provide(recordNowOf(way), way.drain.pipe(Layer.provide(client(proxied, { maxConnections: 2 }))))
  )

const reset = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    sql`truncate note, sluice.service_call, sluice.chunk_queue, sluice.persisted_chunk, sluice.dead_letter,
    sluice.chunk_failure, sluice.worker`
)
const found = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<Record<"calls" | "queued" | "ledger" | "notes" | "failures", number>>`
    select (select count(*)::int from sluice.service_call) as calls,
      (select count(*)::int from sluice.chunk_queue) as queued,
      (select count(*)::int from sluice.persisted_chunk) as ledger, (select count(*)::int from note) as notes,
      (select count(*)::int from sluice.chunk_failure) as failures`
  return row!
})
const nothing = { calls: 0, queued: 0, ledger: 0, notes: 0, failures: 0 }
const done = { ...nothing, calls: 1, ledger: 1, notes: 1 }
const queued = { ...nothing, calls: 1, queued: 1 }

beforeAll(async () => {
  const url = await Effect.runPromise(Scope.provide(freshDatabase(), scope))
  const { hostname, pathname, port, username } = new URL(url)
  proxy = await startProxy(Number(port))
  proxied = `postgres://${username}@${hostname}:${proxy.port}${pathname}`
  past = ManagedRuntime.make(client(url, { maxConnections: 3 }))
  await direct(prepare)
})
afterAll(async () => {
  await past.dispose()
  await proxy.close()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

const terminate = async ({ backend }: Passing) => {
  await direct(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_terminate_backend(${backend}, 5000)`))
  return "pass" as const
}
const strikes = { "is cut at both ends": () => Promise.resolve("cut" as const), "is terminated": terminate }

it.each(Object.keys(strikes).flatMap((name) => Object.keys(ways).map((commits) => [name, commits] as const)))(
  "the connection %s at each statement of %s: nothing is half done, or done twice",
  async (name, commits) => {
    const strike = strikes[name as keyof typeof strikes]
    const way = ways[commits]!
    const recordNow = recordNowOf(way)
    const cutRun = () => cutRunOf(way)
    const statements: Array<string> = []
    proxy.watch(({ side, text }) => {
      if (side === "before") statements.push(text.replaceAll(/\s+/g, " ").trim())
      return "pass"
    })
    await direct(reset)
    expect(Exit.isSuccess(await cutRun())).toBe(true)
    expect(await direct(found)).toEqual(done)
    const begins = statements.findIndex((text) => way.first.test(text))
    expect(begins).toBeGreaterThan(0)
    const until = statements.findIndex((text, index) => index >= begins && way.last.test(text))
    expect(until).toBeGreaterThanOrEqual(begins)
    for (let index = begins; index <= until; index++) {
      for (const side of ["before", "after"] as const) {
        const where = `${side} statement ${index + 1}: ${statements[index]}`
        await direct(reset)
        let struck = false
        proxy.watch((passing) => {
          if (struck || passing.number !== index + 1 || passing.side !== side) return "pass"
          struck = true
          return strike(passing)
        })
        const exit = await cutRun()
        expect(struck, where).toBe(true)
        const after = await direct(found)
        expect(Exit.isSuccess(exit) ? [done] : [nothing, queued, done], where).toContainEqual(after)
        // who has no answer asks again, and a worker does what is left
        proxy.watch(() => "pass")
        await direct(Effect.provide(Effect.andThen(Effect.exit(recordNow), recover), way.drain))
        expect(await direct(found), where).toEqual(done)
      }
    }
  },
  600_000
)
