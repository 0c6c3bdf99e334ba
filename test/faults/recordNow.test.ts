/**
 * `recordNow` is broken before and after each of its statements. Afterwards the answer is recorded with its rows, or is in
 * the queue, or nothing of it is recorded; and a second try persists it once.
 */
import { Drain, type ServiceCall } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { afterAll, beforeAll, expect, it } from "vitest"
import { type Breakable, breakable, cut, sidesOf, terminate } from "./breakable.ts"
import { declaredDrain, drain, prepare, recover, Sign } from "./ward.ts"

let database: Breakable

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
  Effect.runPromiseExit(Effect.provide(recordNowOf(way), way.drain.pipe(Layer.provide(database.client))))

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
  database = await breakable()
  await database.direct(prepare)
})
afterAll(() => database.close())

const strikes = { "is cut at both ends": cut, "is terminated": terminate }

it.each(Object.keys(strikes).flatMap((name) => Object.keys(ways).map((commits) => [name, commits] as const)))(
  "the connection %s at each statement of %s: nothing is half done, or done twice",
  async (how, commits) => {
    const strike = strikes[how as keyof typeof strikes]
    const way = ways[commits]!
    const recordNow = recordNowOf(way)
    const cutRun = () => cutRunOf(way)
    const { direct } = database
    await direct(reset)
    const statements = await database.statementsOf(async () => expect(Exit.isSuccess(await cutRun())).toBe(true))
    expect(await direct(found)).toEqual(done)
    const begins = statements.findIndex(({ text }) => way.first.test(text))
    expect(begins).toBeGreaterThan(0)
    const until = statements.findIndex(({ text }, index) => index >= begins && way.last.test(text))
    expect(until).toBeGreaterThanOrEqual(begins)
    for (const [index, statement] of statements.entries()) {
      if (index < begins || index > until) continue
      for (const side of sidesOf(statement)) {
        const name = `${side} statement ${index + 1}: ${statement.text}`
        await direct(reset)
        const exit = await database.breakAt({ number: index + 1, side, name }, strike, cutRun)
        const after = await direct(found)
        expect(Exit.isSuccess(exit) ? [done] : [nothing, queued, done], name).toContainEqual(after)
        // a caller without an answer asks again, and a worker drains what is in the queue
        await direct(Effect.provide(Effect.andThen(Effect.exit(recordNow), recover), way.drain))
        expect(await direct(found), name).toEqual(done)
      }
    }
  },
  600_000
)
