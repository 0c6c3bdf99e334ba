/**
 * Behind a pooler in transaction mode nothing is kept in a session: recording, draining and looking after it all work,
 * without prepared statements and without LISTEN. A client that prepares statements is refused at the start.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it, layer } from "@effect/vitest"
import {
  CallRecorder,
  DeadLetters,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  Pauses,
  Retention,
  Settings,
  WakeUp
} from "effect-sluice"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { run } from "../cli/inProcess.ts"
import { type Pooler, startPooler } from "../support/pooler.ts"
import { client, freshDatabase } from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

class Note extends Output.make("schemas.clinic.ward.note", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String, fails: Schema.Boolean })
}) {}

const handler = HandlerPlugin.layer(
  "clinic",
  Note,
  Effect.map(SqlClient.SqlClient, (sql) => ({
    maxAttempts: 1,
    persist: Effect.fnUntraced(function*({ call, output }) {
      yield* sql`insert into note (call_id, content) values (${call.callId}, ${output.text})`
      if (output.fails) return yield* Effect.fail("no")
      return DomainObject.make("clinic.Note", call.callId)
    })
  }))
)

class Between extends Context.Service<Between, Pooler>()("test/Between") {}

const pooled = Layer.unwrap(
  Effect.map(Between, ({ port }) =>
    PgClient.layer({
      url: Redacted.make(`postgres://postgres@127.0.0.1:${port}/any`),
      maxConnections: 6,
      prepare: false
    }))
)
/** A pooler of this many sessions before a new database. */
const between = (sessions: number) =>
  Layer.effect(
    Between,
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      return yield* Effect.acquireRelease(
        Effect.promise(() => startPooler(url, sessions)),
        (pooler) => Effect.promise(() => pooler.close())
      )
    })
  )
const application = Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
  Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handler))),
  Layer.provide(DomainEvents.layer),
  Layer.provideMerge(PgStore.layer),
  Layer.provideMerge(Settings.layer({ batchSize: 10 })),
  Layer.provideMerge(pooled),
  Layer.provideMerge(between(2))
)

layer(application, { excludeTestServices: true, timeout: 60_000 })("behind a pooler", (it) => {
  it.effect("six clients on two sessions", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const recorder = yield* CallRecorder.CallRecorder
      const drain = yield* Drain.Drain
      const letters = yield* DeadLetters.DeadLetters
      yield* sql`create table note (call_id text not null, content text not null)`
      const ids = Array.from({ length: 100 }, (_, n) => `call-${n}`)
      const record = (callId: string, n: number) =>
        recorder.record({
          callId,
          namespace: "clinic",
          service: "services.clinic.ward.take-notes",
          ...(n % 3 === 0 ? { orderingKey: `bed-${n % 5}` } : {}),
          outputs: [{ schema: Note.identity, version: 1, data: { text: "a note", fails: n === 50 } }]
        })
      const drains = Effect.forEach([1, 2, 3, 4], () => drain.untilEmpty, { concurrency: "unbounded" })
      yield* Effect.all([Effect.forEach(ids, record, { concurrency: 8 }), drains], { concurrency: 2 })
      yield* drains
      yield* drain.untilEmpty

      const rows = yield* sql<{ call_id: string }>`select call_id from note`
      expect(rows.map((row) => row.call_id).sort()).toEqual(ids.filter((id) => id !== "call-50").sort())
      expect(yield* letters.count({})).toMatchObject([{ reason: "exhausted", count: 1 }])
      expect(yield* letters.redrive({})).toBe(1)
      const pauses = yield* Pauses.Pauses
      yield* pauses.pause({ namespace: "clinic", schemaIdentity: "*" }, "")
      expect(yield* pauses.list).toHaveLength(1)
      yield* Retention.Retention.use((retention) => retention.prune({ payloads: Duration.days(1) }))
      expect((yield* Between).moved()).toBeGreaterThan(50)
    }), 60_000)
})

describe("a handler behind a pooler", () => {
  /** What a run leaves in its session, whether it succeeds or not. */
  const leaving = HandlerPlugin.layer(
    "clinic",
    Note,
    Effect.map(SqlClient.SqlClient, (sql) => ({
      maxAttempts: 1,
      isolation: "transaction" as const,
      persist: Effect.fnUntraced(function*({ call, output }) {
        yield* sql`set app.tenant = 'of this run'`
        yield* sql`select pg_advisory_lock(4711)`
        yield* sql`insert into note (call_id, content) values (${call.callId}, ${output.text})`
        if (output.fails) return yield* Effect.fail("no")
        return DomainObject.make("clinic.Note", call.callId)
      })
    }))
  )

  it.live(
    "leaves nothing in the session that is another client's from its commit or rollback on",
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const recorder = yield* CallRecorder.CallRecorder
        yield* sql`create table note (call_id text not null, content text not null)`
        for (
          const [callId, fails] of [["call-1", false], ["call-2", true], ["call-3", false], ["call-4", true]] as const
        ) {
          yield* recorder.record({
            callId,
            namespace: "clinic",
            service: "services.clinic.ward.take-notes",
            outputs: [{ schema: Note.identity, version: 1, data: { text: "a note", fails } }]
          })
        }
        expect(yield* Drain.Drain.use((drain) => drain.untilEmpty)).toMatchObject({ persisted: 2, dead: 2 })
        // each of the pooler's sessions answers some of these
        const left = yield* Effect.replicateEffect(
          sql`select pg_backend_pid() as pid, coalesce(current_setting('app.tenant', true), '') as tenant,
            (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks`,
          12
        )
        expect(new Set(left.flat().map(({ pid }) => pid)).size).toBe(3)
        for (const row of left.flat()) expect(row).toMatchObject({ tenant: "", locks: 0 })
      }).pipe(
        Effect.provide(
          Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
            Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(leaving))),
            Layer.provide(DomainEvents.layer),
            Layer.provideMerge(PgStore.layer),
            Layer.provideMerge(Settings.layer({ batchSize: 10 })),
            Layer.provideMerge(pooled),
            Layer.provideMerge(between(3)),
            Layer.fresh
          )
        ),
        Effect.scoped
      ),
    60_000
  )
})

describe("a program that starts behind a pooler", () => {
  const between = Effect.fnUntraced(function*(sessions: number, mode?: "statement") {
    const url = yield* freshDatabase()
    const { port } = yield* Effect.acquireRelease(
      Effect.promise(() => startPooler(url, sessions, mode)),
      (pooler) => Effect.promise(() => pooler.close())
    )
    return { url, through: `postgres://postgres@127.0.0.1:${port}/any` }
  })
  const build = (
    url: string,
    options: { readonly prepare?: boolean; readonly maxConnections?: number },
    settings = {},
    layer = PgStore.layer
  ) =>
    Layer.build(
      Layer.fresh(layer).pipe(
        Layer.provideMerge(Layer.fresh(PgClient.layer({ url: Redacted.make(url), maxConnections: 4, ...options }))),
        Layer.provideMerge(Settings.layer(settings))
      )
    )
  const logged = () => {
    const lines: Array<string> = []
    return { lines, layer: Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))]) }
  }

  for (const sessions of [1, 2, 3, 5]) {
    it.live(
      `of ${sessions} sessions, with a client as it is by default: is refused in one sentence`,
      () =>
        Effect.gen(function*() {
          const { through, url } = yield* between(sessions)
          yield* Effect.provide(Migrations.run, client(url))
          for (const maxConnections of [1, 4]) {
            const error = yield* Effect.flip(build(through, { maxConnections }))
            expect(error).toMatchObject({ _tag: "DatabaseUnfit", problem: "pooler" })
            expect(error.message).toMatch(/^a pooler in transaction mode .* give the client prepare: false$/)
          }
          yield* build(through, { prepare: false })
          // and one that is not there is not seen
          yield* build(url, {})
        }).pipe(Effect.scoped),
      60_000
    )
  }

  it.live(
    "in statement mode: is refused in one sentence, before and after the tables are there, and by the command",
    () =>
      Effect.gen(function*() {
        const { through, url } = yield* between(3, "statement")
        const sentence = /^a pooler in statement mode .*: give it the mode transaction or session$/
        for (const migrated of [false, true]) {
          if (migrated) yield* Effect.provide(Migrations.run, client(url))
          for (const layer of migrated ? [PgStore.layer, PgStore.layerStorage] : [PgStore.layer]) {
            const error = yield* Effect.flip(build(through, { prepare: false }, {}, layer))
            expect(error).toMatchObject({ _tag: "DatabaseUnfit", problem: "pooler" })
            expect(error.message).toMatch(sentence)
          }
        }
        const { reason } = yield* Effect.promise(() => run("status", "--url", through))
        expect(reason).toMatch(/a pooler in statement mode is in between/)
        const doctor = yield* Effect.promise(() => run("doctor", "--url", through))
        expect(doctor.stdout).toMatch(/^X {3}server: a pooler in statement mode is in between/)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "gives its hints through it, and hears those of others at the server's own address",
    () =>
      Effect.gen(function*() {
        const { through, url } = yield* between(3)
        const { layer, lines } = logged()
        const deaf = yield* Effect.provide(build(through, { prepare: false }), layer)
        expect(lines).toEqual([expect.stringMatching(/no hints from other processes arrive; .* SLUICE_LISTEN_URL/)])
        const hearing = yield* build(through, { prepare: false }, { listenUrl: Redacted.make(url) })
        const heard = yield* Queue.unbounded<string>()
        const hints = yield* Context.get(hearing, WakeUp.WakeUp).hear("pauses")
        yield* Effect.forkScoped(Stream.runForEach(hints, () => Queue.offer(heard, "pauses")))
        yield* Queue.take(heard)
        yield* Context.get(deaf, WakeUp.WakeUp).hint("pauses")
        expect(yield* Queue.take(heard)).toBe("pauses")
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("says when the address to listen on leads to the pooler as well", () =>
    Effect.gen(function*() {
      const { through } = yield* between(3)
      const { layer, lines } = logged()
      yield* Effect.provide(build(through, { prepare: false }, { listenUrl: Redacted.make(through) }), layer)
      yield* untilIt(Effect.sync(() => lines.length), (count) => count > 0)
      expect(lines[0]).toMatch(/what is sent is not heard; does the address .* lead to a pooler in transaction mode/)
    }).pipe(Effect.scoped), 60_000)
})
