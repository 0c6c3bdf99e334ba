/**
 * What stands in the tables already and should not: written by an older version, by a newer one, or by hand in SQL. Each
 * has its expected answer; none crashes a worker, none stops the drain, none is lost, and everybody who asks for one is
 * answered.
 */
import { layer } from "@effect/vitest"
import {
  ChunkStore,
  DeadLetters,
  DomainEvents,
  Drain,
  EventLog,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  Settings
} from "effect-sluice"
import * as DomainObject from "effect-sluice/DomainObject"
import type { HandlerInput } from "effect-sluice/Handler"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import * as inspect from "../support/inspect.ts"
import * as Postgres from "../support/Postgres.ts"

class Note extends Output.make("schemas.clinic.ward.note", {
  version: 2,
  schema: Schema.Struct({
    text: Schema.String,
    at: Schema.optionalKey(Schema.DateTimeUtcFromString),
    /** A key of the context the handler asks for. */
    asks: Schema.optionalKey(Schema.String)
  }),
  upcasts: {
    1: (data) => {
      // an upcast that trusts what it is given
      const { words } = data as { words: Array<string> }
      return Effect.succeed({ text: words.join(" ") })
    }
  }
}) {}

const handler = HandlerPlugin.layer(
  "clinic",
  Note,
  Effect.map(
    SqlClient.SqlClient,
    (sql) =>
      Effect.fnUntraced(function*({ call, output }: HandlerInput<typeof Note.schema.Type>) {
        yield* sql`insert into note (call_id, content) values (${call.callId}, ${output.text})`
        if (output.asks !== undefined) yield* call.context(output.asks)
        return DomainObject.make("clinic.Note", call.callId)
      })
  )
)

const application = Drain.layer.pipe(
  Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handler))),
  Layer.provide(DomainEvents.layer),
  Layer.provideMerge(PgStore.layer),
  Layer.provide(Settings.layer({ lease: Duration.minutes(1), maxAttempts: 3, handlerTimeout: Duration.seconds(1) })),
  Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer())))
)

/** A row of the queue and its call, as a hand may write them. */
interface Stored {
  readonly callId?: string
  readonly withoutCall?: boolean
  /** JSON texts of the call's outputs. */
  readonly outputs?: ReadonlyArray<string> | null
  /** Other columns of the call. */
  readonly call?: Readonly<Record<string, string | number>>
  /** Other columns of the queue's row. */
  readonly chunk?: Readonly<Record<string, string | number>>
  /** JSON text of the objects of a line in the ledger. */
  readonly ledger?: string
  /** How many rows of the application there are in the end; by default one when it is persisted. */
  readonly notes?: number
}

const output = (data: string) => [`{"schema": "${Note.identity}", "version": 2, "data": ${data}}`]
const deep = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`
// so that no compression makes it short
const long = Array.from({ length: 300 }, (_, n) => Math.sin(n)).join("")
const asking = output("{\"text\": \"a note\", \"asks\": \"bed\"}")

const table: ReadonlyArray<readonly [name: string, stored: Stored, end: string]> = [
  ["a good one", {}, "persisted"],

  // the recorded result
  ["outputs that are missing", { outputs: null, call: { status: "failed" } }, "dead: undecodable"],
  ["outputs that are null", { outputs: ["null"] }, "dead: undecodable"],
  ["outputs that are lists", { outputs: ["[1]"] }, "dead: undecodable"],
  ["outputs that are texts", { outputs: ["\"a\""] }, "dead: undecodable"],
  ["an empty list", { outputs: [] }, "dead: undecodable"],
  ["no call at all", { withoutCall: true }, "dead: undecodable"],
  ["a position beyond the list", { chunk: { position: 7 } }, "dead: undecodable"],
  ["an output without data", { outputs: [`{"schema": "${Note.identity}"}`] }, "dead: undecodable"],
  ["data that is null", { outputs: output("null") }, "dead: undecodable"],
  ["JSON cut off, kept as a text", { outputs: output("\"{\\\"text\\\": \\\"a no\"") }, "dead: undecodable"],
  ["a missing field", { outputs: output("{}") }, "dead: undecodable"],
  ["a field of another type", { outputs: output("{\"text\": [\"a\"]}") }, "dead: undecodable"],
  ["a field too many", { outputs: output("{\"text\": \"a\", \"more\": 1}") }, "persisted"],
  ["a date out of range", { outputs: output("{\"text\": \"a\", \"at\": \"300000-99-99\"}") }, "dead: undecodable"],
  ["a number beyond 2^53", { outputs: output("{\"text\": \"a\", \"more\": 9007199254740993}") }, "persisted"],
  ["a number beyond all doubles", { outputs: output(`{"text": 1${"0".repeat(400)}}`) }, "dead: undecodable"],
  ["100 levels", { outputs: output(`{"text": ${deep(100)}}`) }, "dead: undecodable"],
  ["5,000 levels", { outputs: output(`{"text": ${deep(5000)}}`) }, "dead: undecodable"],
  ["10 MB of text", { outputs: output(`{"text": "${"x".repeat(10_000_000)}"}`) }, "persisted"],
  ["10 MB where a text should be", {
    outputs: output(`[${Array.from({ length: 500_000 }, () => "{\"a\": 1}").join()}]`)
  }, "dead: undecodable"],
  ["more than a claim hands out", { call: { input: `"${"x".repeat(16_000_000)}"` } }, "dead: undecodable"],
  ["NUL in a text", { outputs: output("{\"text\": \"a\\u0000b\"}") }, "dead: undecodable"],
  ["half a character in a text", { outputs: output("{\"text\": \"a\\ud83db\"}") }, "dead: undecodable"],
  ["NUL in a key", { outputs: output("{\"text\": \"a\", \"\\u0000\": 1}") }, "dead: undecodable"],
  ["a whole character, escaped", { outputs: output("{\"text\": \"\\ud83e\\ude7a\\u0007\"}") }, "persisted"],
  ["keys that are words to JavaScript", {
    outputs: output("{\"text\": \"a\", \"__proto__\": {\"asks\": \"bed\"}, \"constructor\": 1}")
  }, "persisted"],

  // versions
  ["version 1", { chunk: { schema_version: 1 }, outputs: output("{\"words\": [\"a\", \"b\"]}") }, "persisted"],
  ["version 1 that its upcast chokes on", {
    chunk: { schema_version: 1 },
    outputs: output("{\"words\": null}")
  }, "dead: undecodable"],
  ["a version of the future", { chunk: { schema_version: 3 } }, "parked"],
  ["the last version there can be", { chunk: { schema_version: 2147483647 } }, "parked"],
  ["version 0", { chunk: { schema_version: 0 } }, "dead: unknown-version"],
  ["a version below 0", { chunk: { schema_version: -2147483648 } }, "dead: unknown-version"],

  // kinds
  ["a schema nobody knows", { chunk: { schema_identity: "schemas.clinic.ward.unheard-of" } }, "parked"],
  ["a schema that is none", { chunk: { schema_identity: "'; drop table note; --" } }, "parked"],
  ["an empty schema", { chunk: { schema_identity: "" } }, "parked"],
  ["a namespace nobody knows", { chunk: { namespace: "clinc" } }, "parked"],
  ["a schema of emoji and lines", { chunk: { schema_identity: "🩺\n\u202e\"" } }, "parked"],
  ["a schema of another domain", { chunk: { schema_identity: "services.clinic.ward.note" } }, "parked"],
  ["a hostile namespace of SQL", { chunk: { namespace: "'; drop table note; --" } }, "parked"],
  ["an empty namespace", { chunk: { namespace: "" } }, "parked"],
  ["a hostile namespace", { chunk: { namespace: "__proto__" } }, "parked"],
  ["a namespace of emoji", { chunk: { namespace: "🩺\n\u202e" } }, "parked"],

  // ids
  ["a hostile id", { callId: "'; drop table note; --\n\t\u202e🩺" }, "persisted"],
  ["an id with the part of another", { callId: `x ${Note.identity}#y` }, "persisted"],
  ["a hostile part", { chunk: { part: "'; drop table note; -- 🩺" } }, "persisted"],
  ["a hostile ordering key", { chunk: { ordering_key: "'; drop table note; --\n🩺" } }, "persisted"],
  ["a part beyond all indexes", { chunk: { part: long } }, "refused"],
  ["a schema beyond all indexes", { chunk: { schema_identity: long } }, "refused"],
  ["a namespace beyond all indexes", { chunk: { namespace: long } }, "refused"],
  ["an ordering key beyond all indexes", { chunk: { ordering_key: long } }, "refused"],
  ["an id beyond all indexes", { callId: long, withoutCall: true }, "refused"],
  ["an empty ordering key", { chunk: { ordering_key: "" } }, "persisted"],

  ["an id from right to left, of two lines", { callId: "\u202e\u2066a\u2028\r\nb\u0007" }, "persisted"],
  ["an id of quotes", { callId: "\"'`$1\\" }, "persisted"],
  ["an empty id, which no call can have", { callId: "", withoutCall: true }, "dead: undecodable"],

  // the call
  ["context that is a list", { call: { context: "[1]" } }, "persisted"],
  ["context that is a text", { call: { context: "\"bed\"" } }, "persisted"],
  ["context that is null", { call: { context: "null" } }, "persisted"],
  ["context that is a number", { call: { context: "7" } }, "persisted"],
  ["context that is asked and not there", { outputs: asking }, "dead: rejected"],
  ["context that is asked and a list", { outputs: asking, call: { context: "[1]" } }, "dead: rejected"],
  ["context that is asked and a text", { outputs: asking, call: { context: "\"bed\"" } }, "dead: rejected"],
  ["context that is asked and no text", { outputs: asking, call: { context: "{\"bed\": 7}" } }, "dead: rejected"],
  // what stands beside the output is handed on as it is: only a handler that writes it would meet the database's no
  ["context that is asked and holds NUL", {
    outputs: asking,
    call: { context: "{\"bed\": \"a\\u0000\"}" }
  }, "persisted"],
  ["NUL in a key of the context", { call: { context: "{\"a\\u0000\": 1}" } }, "persisted"],
  ["half a character in the context", { call: { context: "{\"bed\": \"\\ud83d\"}" } }, "persisted"],
  ["5,000 levels of context", { call: { context: `{"a": ${deep(5000)}}` } }, "persisted"],
  ["10 MB of context", { call: { context: `{"a": "${"x".repeat(10_000_000)}"}` } }, "persisted"],
  ["numbers beyond 2^53 in the context", { call: { context: "{\"a\": 9007199254740993, \"b\": 1e308}" } }, "persisted"],
  ["a number beyond all doubles in the input", { call: { input: `1${"0".repeat(400)}` } }, "persisted"],
  ["NUL in the input", { call: { input: "\"a\\u0000\"" } }, "persisted"],
  ["a hostile correlation id", { call: { correlation_id: "'; --\n\u202e🩺" } }, "persisted"],
  ["a trace that is a number", { call: { trace: "7" } }, "persisted"],
  ["a trace that is null", { call: { trace: "null" } }, "persisted"],
  ["half a trace", { call: { trace: "{\"traceId\": 7}" } }, "persisted"],
  ["a hostile trace", { call: { trace: "{\"traceId\": \"'\", \"spanId\": \"\", \"sampled\": \"yes\"}" } }, "persisted"],
  ["input and details of any kind", { call: { input: "[[7]]", details: "\"x\"" } }, "persisted"],
  ["a service that is none", { call: { service: "'; drop table note; --" } }, "persisted"],
  ["a time out of range", { call: { finished_at: "290000-01-01" } }, "persisted"],
  ["a time without end", { call: { finished_at: "infinity", recorded_at: "-infinity" } }, "persisted"],
  ["a time before all times", { call: { finished_at: "4713-01-01 BC" } }, "persisted"],
  ["a call that says it is still running", { call: { status: "running" } }, "persisted"],

  // the queue's own columns
  ["attempts below 0", { chunk: { attempts: -5 } }, "persisted"],
  ["as many attempts as there are numbers", { chunk: { attempts: 2147483647 } }, "persisted"],
  ["the same, and it fails", { chunk: { attempts: 2147483647 }, outputs: asking }, "dead: rejected"],
  ["crashes beyond counting", { chunk: { crashes: 2147483647, lone_crashes: 2147483647 } }, "dead: crashing"],
  ["crashes below 0", { chunk: { crashes: -1, lone_crashes: -1 } }, "persisted"],
  ["bytes beyond all claims", { chunk: { bytes: 2147483647 } }, "persisted"],
  ["bytes below 0", { chunk: { bytes: -2147483648 } }, "persisted"],
  ["a priority beyond all others", { chunk: { priority: 2147483647 } }, "persisted"],
  ["a rank after all others", { chunk: { rank: "infinity" } }, "persisted"],
  ["a rank before all others", { chunk: { rank: "-infinity" } }, "persisted"],
  ["recorded at no time", { chunk: { recorded_at: "infinity" } }, "persisted"],
  ["due at a time out of range", { chunk: { due_at: "-infinity", state: "scheduled" } }, "persisted"],
  ["due at no time", { chunk: { due_at: "infinity", state: "scheduled" } }, "scheduled"],
  ["parked for no reason", { chunk: { state: "parked" } }, "refused"],
  ["a lease that ran out long ago", { chunk: { lease_until: "-infinity" } }, "persisted"],

  // the ledger
  ["a line in the ledger", { ledger: "[{\"type\": \"clinic.Note\", \"id\": \"1\"}]", notes: 0 }, "persisted"],
  ["a line whose row has a number", { ledger: "[{\"type\": \"clinic.Note\", \"id\": 7}]", notes: 0 }, "persisted"],
  ["a line of no rows but a text", { ledger: "\"note\"", notes: 0 }, "persisted"],
  ["a line of anything", { ledger: "[null, 7, {}, {\"type\": 1, \"id\": []}, \"x\"]", notes: 0 }, "persisted"],
  ["a line of null", { ledger: "null", notes: 0 }, "persisted"],
  ["a line of one that cannot be decoded", { ledger: "{}", outputs: null, notes: 0 }, "persisted"]
]

layer(application, { excludeTestServices: true, timeout: 60_000 })("stored by hand", (it) => {
  const idOf = (index: number) => table[index]?.[1].callId ?? `call-${index}`

  it.effect("each comes to its end, in one drain", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create table note (id serial primary key, call_id text not null, content text not null)`
      for (const [index, [, stored, end]] of table.entries()) {
        const callId = idOf(index)
        if (stored.withoutCall !== true) {
          yield* sql`insert into sluice.service_call ${
            sql.insert({
              call_id: callId,
              namespace: "clinic",
              service: "services.clinic.ward.take-notes",
              correlation_id: callId,
              status: "succeeded",
              finished_at: "2026-01-01",
              ...stored.call
            })
          }`
          const outputs = stored.outputs === undefined ? output("{\"text\": \"a note\"}") : stored.outputs
          if (outputs !== null) {
            yield* sql`update sluice.service_call set outputs = ${outputs}::text[]::json[] where call_id = ${callId}`
          }
        }
        const chunk = {
          call_id: callId,
          namespace: "clinic",
          schema_identity: Note.identity,
          schema_version: 2,
          part: "",
          ...stored.chunk
        }
        const insert = sql`insert into sluice.chunk_queue ${sql.insert(chunk)}`
        if (end === "refused") {
          // could be neither persisted nor buried, or would be found by nobody: the table does not take it
          expect((yield* Effect.flip(insert)).reason._tag).toBe("ConstraintError")
          continue
        }
        yield* insert
        if (stored.ledger !== undefined) {
          const { call_id, namespace, part, schema_identity, schema_version } = chunk
          yield* sql`insert into sluice.persisted_chunk ${
            sql.insert({
              call_id,
              namespace,
              part,
              schema_identity,
              schema_version,
              handler: "by hand",
              handler_version: 1,
              objects: stored.ledger
            })
          }`
        }
      }

      const report = yield* Effect.flatMap(Drain.Drain, (drain) => drain.untilEmpty)

      const ends = new Map<string, string>()
      for (const row of yield* sql<{ call_id: string }>`select call_id from sluice.persisted_chunk`) {
        ends.set(row.call_id, "persisted")
      }
      for (
        const row of yield* sql<{ call_id: string; reason: string }>`select call_id, reason from sluice.dead_letter`
      ) {
        ends.set(row.call_id, `dead: ${row.reason}`)
      }
      for (const row of yield* sql<{ call_id: string; state: string }>`select call_id, state from sluice.chunk_queue`) {
        ends.set(row.call_id, row.state)
      }
      const found = table.map(([name], index) => [name, ends.get(idOf(index)) ?? "refused"])
      expect(found).toEqual(table.map(([name, , end]) => [name, end]))
      const already = table.filter(([, { ledger }]) => ledger !== undefined).length
      expect(report).toMatchObject({ retried: 0, released: 0, alreadyPersisted: already })
      const rows = yield* sql<{ call_id: string; count: number }>`
        select call_id, count(*)::int as count from note group by call_id`
      const counts = new Map(rows.map((row) => [row.call_id, row.count]))
      expect(table.map(([name], index) => [name, counts.get(idOf(index)) ?? 0])).toEqual(
        table.map(([name, stored, end]) => [name, stored.notes ?? (end === "persisted" ? 1 : 0)])
      )
      // nobody was charged for what is not a handler's fault
      expect(yield* sql`select call_id from sluice.dead_letter where attempts > 0 and reason <> 'rejected'`).toEqual([])
    }))

  it.effect("and whoever asks for one is answered", () =>
    Effect.gen(function*() {
      const drain = yield* Drain.Drain
      expect((yield* inspect.status).length).toBeGreaterThan(3)
      expect(Option.isSome(yield* inspect.nextDue)).toBe(true)
      for (const [index, [name, stored, end]] of table.entries()) {
        const view = yield* inspect.call(idOf(index))
        expect.soft([name, Option.isNone(view)]).toEqual([name, stored.withoutCall === true])
        const exit = yield* Effect.exit(drain.persistNow(idOf(index)))
        if (Exit.isFailure(exit)) expect.soft(Cause.hasDies(exit.cause), `${name}: ${exit.cause}`).toBe(false)
        expect.soft([name, Exit.isSuccess(exit)]).toEqual([name, end === "persisted"])
      }
      const letters = yield* DeadLetters.DeadLetters
      const dead = table.filter(([, , end]) => end.startsWith("dead"))
      expect((yield* letters.count({})).reduce((sum, { count }) => sum + count, 0)).toBe(dead.length)
      for (const { key } of yield* letters.list({}, { limit: 1000 })) {
        expect.soft(Option.isSome(yield* letters.inspect(key)), key.callId).toBe(true)
      }
      // a durable reader gets past every line
      const log = yield* EventLog.EventLog
      yield* log.open("media", "beginning")
      const taken = Option.getOrThrow(
        yield* log.take("media", { limit: 1000, maxBytes: 1e9, lease: Duration.minutes(1), reader: "test" })
      )
      expect(taken.entries.length).toBe(table.filter(([, , end]) => end === "persisted").length)
    }))

  it.effect("what is no JSON at all, no hand can write either", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      for (const text of ["{\"text\": \"a no", "", "undefined", "NaN", "{text: 1}"]) {
        const written = sql`update sluice.service_call set outputs = ${[text]}::text[]::json[] where call_id = 'call-0'`
        expect((yield* Effect.flip(written)).message, text).not.toBe("")
      }
    }))

  it.effect(
    "a call whose JSON a hand has written in another form is the same, and one with another content is not",
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const store = yield* ChunkStore.ChunkStore
        const forms: ReadonlyArray<readonly [stored: string, outcome: string]> = [
          [
            "{ \"n\" : [1.0, 1e2, -0.0],\n \"text\" : \"a \\ud83d\\ude00 \\u0041\\/\", \"x\": 1, \"x\": null }",
            "unchanged"
          ],
          ["{\"x\":null,\"text\":\"a 😀 A/\",\"n\":[1,100,0]}", "unchanged"],
          ["{\"x\":null,\"text\":\"a 😀 A/\\u0000\",\"n\":[1,100,0]}", "conflict"],
          ["{\"x\":null,\"text\":\"a \\ud83d A/\",\"n\":[1,100,0]}", "conflict"],
          [`{"x":null,"text":"a 😀 A/","n":[1,100,1${"0".repeat(400)}]}`, "conflict"],
          [`{"x":${deep(5000)},"text":"a 😀 A/","n":[1,100,0]}`, "conflict"],
          // the server does not send what the client would not take
          [`{"x":null,"text":"${"x".repeat(20_000_000)}","n":[1,100,0]}`, "conflict"]
        ]
        const given = {
          callId: "by hand",
          namespace: "clinic",
          service: "services.clinic.ward.take-notes",
          context: { x: null, text: "a 😀 A/", n: [1, 100, 0] },
          input: { x: null, text: "a 😀 A/", n: [1, 100, 0] },
          outputs: [{ schema: Note.identity, version: 2, data: { x: null, text: "a 😀 A/", n: [1, 100, 0] } }]
        }
        const { outputs: _, ...asked } = given
        expect(yield* store.record([given])).toEqual(["recorded"])
        for (const [stored, outcome] of forms) {
          const output = `{"version":2,"data":${stored},"schema":"${Note.identity}"}`
          yield* sql`update sluice.service_call set context = ${stored}::json, input = ${stored}::json where call_id = 'by hand'`
          expect.soft([stored.slice(0, 60), yield* store.record([given])]).toEqual([stored.slice(0, 60), [outcome]])
          if (stored.length < 1_000_000) {
            const tag = outcome === "unchanged" ? "Succeeded" : "Conflict"
            expect.soft([stored.slice(0, 60), (yield* store.begin(asked, Duration.minutes(1)))._tag])
              .toEqual([stored.slice(0, 60), tag])
          }
          yield* sql`update sluice.service_call set context = ${JSON.stringify(given.context)}::json,
          input = ${JSON.stringify(given.input)}::json, outputs = array[${output}::json] where call_id = 'by hand'`
          expect.soft([stored.slice(0, 60), yield* store.record([given])]).toEqual([stored.slice(0, 60), [outcome]])
        }
      })
  )

  it.effect("and a call that is delivered again is compared with it", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const answers = yield* Effect.forEach([...table.entries()], ([index, [, stored]]) => {
        if (stored.withoutCall === true) return Effect.succeed("recorded")
        const again = {
          callId: idOf(index),
          namespace: "clinic",
          service: "services.clinic.ward.take-notes",
          outputs: [{ schema: Note.identity, version: 2, data: { text: "a note" } }]
        }
        return Effect.map(
          Effect.exit(store.record([again])),
          (exit) => Exit.isSuccess(exit) ? exit.value[0] : String(exit.cause)
        )
      })
      // what a hand has written as its result is another; the rest is compared as far as it goes
      for (const [index, [name, { outputs }]] of table.entries()) {
        const asked = (outputs ?? null) === null ? ["recorded", "unchanged", "conflict"] : ["conflict"]
        expect.soft(asked, `${name}: ${answers[index]}`).toContain(answers[index])
      }
    }))
})
