/**
 * Roles with exactly the rights that `sluice grants` prints: each can do what it is there for, and nothing else; and what is
 * missing is named.
 */
import { it } from "@effect/vitest"
import {
  CallRecorder,
  ChunkLedger,
  ChunkStore,
  DeadLetters,
  DomainEvents,
  DomainObject,
  Drain,
  EventLog,
  Handler,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  Pauses,
  Retention,
  ServiceCall
} from "effect-sluice"
import * as Gauges from "effect-sluice/store/Gauges"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { list, madeBy } from "../../src/store/pg/statements.ts"
import { grants, type Purpose, purposes } from "../../src/store/Rights.ts"
import * as inspect from "../support/inspect.ts"
import { asRole, client, freshDatabase, runAt } from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

class Note extends Output.make("schemas.clinic.ward.note", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String })
}) {}

const call = (callId: string, fields: Partial<ServiceCall.ServiceCall> = {}): ServiceCall.ServiceCall => ({
  callId,
  namespace: "clinic",
  service: "services.clinic.ward.take-notes",
  context: { bed: 7 },
  outputs: [{ schema: Note.identity, version: 1, data: { text: callId } }],
  ...fields
})

const handler = HandlerPlugin.layer("clinic", Note, {
  maxAttempts: 2,
  persist: ({ output }) =>
    output.text.startsWith("fails")
      ? Effect.fail("the ward is closed")
      : output.text.startsWith("rejected")
      ? Effect.fail(new Handler.HandlerRejected({ reason: "no such bed" }))
      : Effect.succeed(DomainObject.make("clinic.Note", output.text))
})

/** A program on a database, by the role of its address. */
const application = (url: string) =>
  Layer.mergeAll(CallRecorder.layer, ChunkLedger.layer, Layer.fresh(Drain.layer)).pipe(
    Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handler))),
    Layer.provide(DomainEvents.layer),
    Layer.provideMerge(Layer.fresh(PgStore.layer)),
    Layer.provideMerge(Layer.fresh(client(url, { maxConnections: 6 })))
  )

/** A database with Sluice's tables, and a role with what is granted to these. */
const withRole = Effect.fnUntraced(function*(version: 15 | 18, ...granted: ReadonlyArray<Purpose>) {
  const url = yield* freshDatabase(version)
  yield* Effect.provide(Migrations.run, client(url))
  const { role, url: as } = yield* asRole(url, granted[0] ?? "nobody")
  if (granted.length > 0) yield* runAt(url, ...grants("sluice", role, granted))
  // ends of calls are kept
  yield* runAt(url, "insert into sluice.call_subscription values ('complete')")
  return { url, as, role }
})

const failure = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), ({ message }) => message)

const lacks = (role: string, table: string) =>
  new RegExp(`42501|role ${role} lacks rights on sluice\\.${table}: grant .* on sluice\\.${table} to "${role}"`)

for (const version of [15, 18] as const) {
  describe(`rights on Postgres ${version}`, () => {
    it.live("a recorder records and runs, and nothing else", () =>
      Effect.gen(function*() {
        const { as, role, url } = yield* withRole(version, "recorder")
        yield* Effect.gen(function*() {
          const recorder = yield* CallRecorder.CallRecorder
          expect(yield* recorder.record(call("a"))).toBe("recorded")
          expect(yield* recorder.record(call("a"))).toBe("unchanged")
          expect((yield* Effect.flip(recorder.record(call("a", { context: { bed: 8 } }))))._tag).toBe("CallConflict")
          const two = [0, 1].map((n) => ({ schema: Note.identity, version: 1, part: `${n}`, data: { text: "x" } }))
          const many = yield* recorder.recordMany([call("b", { outputs: two }), call("c", { orderingKey: "bed-1" })])
          expect(many.map((one) => one._tag)).toEqual(["Success", "Success"])
          const spec = { callId: "d", namespace: "clinic", service: call("d").service, context: {} }
          const ran = recorder.run(spec, Effect.succeed(call("d").outputs))
          expect((yield* ran).ran).toBe(true)
          expect((yield* ran).ran).toBe(false)
          yield* Effect.flip(recorder.run({ ...spec, callId: "e" }, Effect.fail("the model is away")))

          // the rights of an older version: what is said of an answer is lost, and not the answer
          yield* runAt(url, `revoke all on sluice.call_attempt, sluice.usage_entry from ${role}`)
          const paid = recorder.run({ ...spec, callId: "f" }, (run) =>
            Effect.as(run.answered({ text: "{}", facts: { inputTokens: 5 } }), call("f").outputs))
          expect((yield* paid).ran).toBe(true)
          expect((yield* paid).ran).toBe(false)

          expect(
            yield* failure(Drain.Drain.use((drain) =>
              drain.cycle
            ))
          ).toMatch(
            new RegExp(
              `permission denied for table \\w+: role ${role} lacks rights on sluice\\.\\w+: grant .*--for worker`
            )
          )
          expect(yield* failure(DeadLetters.DeadLetters.use((letters) => letters.count({})))).toMatch(
            lacks(role, "dead_letter")
          )
          const sql = yield* SqlClient.SqlClient
          for (const statement of ["select outputs from sluice.chunk_queue", "select * from sluice.persisted_chunk"]) {
            expect(yield* Effect.isFailure(sql.unsafe(statement))).toBe(true)
          }
        }).pipe(Effect.provide(application(as)))
      }).pipe(Effect.scoped), 60_000)

    it.live(
      "a worker drains, retries, buries, parks, persists inline, beats and leaves, and nothing else",
      () =>
        Effect.gen(function*() {
          const { as, role, url } = yield* withRole(version, "worker")
          const record = (...calls: ReadonlyArray<ServiceCall.ServiceCall>) =>
            Effect.provide(CallRecorder.CallRecorder.use((recorder) => recorder.recordMany(calls)), application(url), {
              local: true
            })
          const kinds = ["lives", "fails", "rejected"].flatMap((name) => [
            call(name),
            ...[1, 2].map((n) => call(`${name}-${n}`, { orderingKey: name }))
          ])
          yield* record(
            ...kinds,
            call("x-ray", { outputs: [{ schema: "schemas.clinic.ward.x-ray", version: 1, data: {} }] }),
            call("new", { outputs: [{ schema: Note.identity, version: 7, data: {} }] }),
            call("inline", { priority: 3 })
          )
          yield* Effect.gen(function*() {
            const drain = yield* Drain.Drain
            const store = yield* ChunkStore.ChunkStore
            expect(yield* drain.persistNow("inline")).toHaveLength(1)
            const ended = "select 1 / (select count(*) from sluice.call_end where call_id = 'inline' and persisted = 1)"
            yield* runAt(url, ended)
            const report = yield* drain.untilEmpty
            expect(report).toMatchObject({ persisted: 3, parked: 2, dead: 2 })
            expect(report.retried).toBeGreaterThan(0)
            yield* runAt(url, "update sluice.chunk_queue set due_at = now() where state = 'scheduled'")
            yield* drain.untilEmpty
            const ledger = yield* ChunkLedger.ChunkLedger
            const key = { callId: "by-hand", schemaIdentity: Note.identity, part: "" }
            expect(yield* ledger.once(key, { namespace: "clinic" }, Effect.succeed([]))).toMatchObject({
              created: true
            })
            yield* record(call("released"))
            const claim = yield* store.claim({ worker: "w", limit: 9, maxBytes: 1e6, lease: Duration.minutes(1) })
            yield* store.renew(claim.token, claim.chunks, Duration.minutes(2))
            yield* store.settle(claim.token, claim.chunks.map((chunk) => ({ _tag: "Release", chunk })))
            expect(Option.isSome(yield* inspect.call("lives"))).toBe(true)
            expect((yield* inspect.status).length).toBeGreaterThan(1)
            yield* store.beat("w", [{ namespace: "clinic", schemaIdentity: "schemas.clinic.ward.x-ray" }])
            yield* store.leave("w")
            yield* inspect.nextDue
            yield* Gauges.sample

            const recording = CallRecorder.CallRecorder.use((recorder) => recorder.record(call("no")))
            expect(yield* failure(recording)).toMatch(/permission denied for table .* --for recorder/)
            expect(yield* failure(DeadLetters.DeadLetters.use((letters) => letters.redrive({})))).toMatch(
              lacks(role, "dead_letter")
            )
            const pausing = Pauses.Pauses.use((pauses) => pauses.pause({ namespace: "*", schemaIdentity: "*" }, ""))
            expect(yield* failure(pausing)).toMatch(lacks(role, "pause"))
          }).pipe(Effect.provide(application(as)))
        }).pipe(Effect.scoped),
      60_000
    )

    it.live("a subscriber reads events, and no answers", () =>
      Effect.gen(function*() {
        const { as, role, url } = yield* withRole(version, "subscriber")
        yield* Effect.provide(
          Effect.gen(function*() {
            yield* CallRecorder.CallRecorder.use((recorder) => recorder.recordMany([call("a"), call("b")]))
            yield* Drain.Drain.use((drain) => drain.untilEmpty)
          }),
          application(url)
        )
        yield* Effect.gen(function*() {
          const log = yield* EventLog.EventLog
          yield* log.open("billing", "beginning")
          const lease = Duration.minutes(1)
          const options = { limit: 10, maxBytes: 1e6, lease, reader: "a test" }
          const taken = yield* untilIt(log.take("billing", options), Option.isSome)
          const { entries, token } = Option.getOrThrow(taken)
          expect(entries[0]?.events[0]).toMatchObject({ context: { bed: 7 }, service: call("a").service })
          for (const { place } of entries) yield* log.advance("billing", token, { place, suspects: 0 }, lease)
          yield* log.release("billing", token, {
            suspects: 1,
            failure: { message: "no", delay: Duration.seconds(1) }
          })
          expect(yield* log.list).toHaveLength(1)
          expect(yield* log.remove("billing")).toBe(true)
          expect(yield* log.open("complete", "beginning", "calls")).toBe("calls")
          const ends = yield* untilIt(log.take("complete", { ...options, feed: "calls" }), Option.isSome)
          expect(Option.getOrThrow(ends).entries[0]?.ended).toMatchObject({ namespace: "clinic", persisted: 1 })
          expect(yield* log.remove("complete")).toBe(true)

          const sql = yield* SqlClient.SqlClient
          expect(yield* Effect.isFailure(sql`select outputs from sluice.service_call`)).toBe(true)
          expect(yield* failure(Drain.Drain.use((drain) => drain.cycle))).toMatch(lacks(role, "chunk_queue"))
          const pruning = Retention.Retention.use((retention) => retention.prune({ payloads: Duration.days(1) }))
          expect(yield* failure(pruning)).toContain(`role ${role} lacks rights on`)
        }).pipe(Effect.provide(application(as)))
      }).pipe(Effect.scoped), 60_000)
  })
}

describe("rights", () => {
  it.live("a role without any is told so at the start, with its name and the grant", () =>
    Effect.gen(function*() {
      const { as, role, url } = yield* withRole(18)
      const start = Effect.scoped(Layer.build(application(as)))
      expect(yield* failure(start)).toMatch(new RegExp(`role ${role} .*usage on schema sluice.*sluice grants ${role}`))
      yield* runAt(url, `grant usage on schema sluice to ${role}`)
      expect(yield* failure(start)).toMatch(lacks(role, "migration"))
    }).pipe(Effect.scoped))

  it("are said of every table and sequence there is", () => {
    const { sequences, tables } = madeBy(list("sluice"))
    const operator = grants("sluice", "x", ["operator"]).join("\n")
    for (const name of [...tables, ...sequences]) expect(operator).toContain(` sluice.${name} to `)
  })

  it("of several purposes are given once, for the schema and the role as they are named", () => {
    const statements = grants("user", "a\"b; drop table x", purposes)
    expect(statements).toContain(
      "grant select, insert, update, delete on \"user\".service_call to \"a\"\"b; drop table x\""
    )
    expect(new Set(statements.map((one) => one.replace(/^grant .* on /, "")))).toHaveProperty("size", statements.length)
  })
})
