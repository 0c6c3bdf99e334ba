/**
 * What stands in the tables already and should not: written by an older version, by a newer one, or by hand in SQL. Each
 * has its expected answer; none crashes a worker, none stops the drain, none is lost.
 */
import { layer } from "@effect/vitest"
import { DomainEvents, Drain, HandlerPlugin, HandlerRegistry, Output, Settings } from "effect-sluice"
import * as DomainObject from "effect-sluice/DomainObject"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import * as Postgres from "./support/Postgres.ts"

class Note extends Output.make("schemas.clinic.ward.note", {
  version: 2,
  schema: Schema.Struct({ text: Schema.String, at: Schema.optionalKey(Schema.DateTimeUtcFromString) }),
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
  Effect.map(SqlClient.SqlClient, (sql) =>
    Effect.fnUntraced(function*({ call, output }) {
      yield* sql`insert into note (call_id, content) values (${call.callId}, ${output.text})`
      return DomainObject.make("clinic.Note", call.callId)
    }))
)

const application = Drain.layer.pipe(
  Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handler))),
  Layer.provide(DomainEvents.layer),
  Layer.provideMerge(PgStore.layer),
  Layer.provide(Settings.layer({ lease: Duration.minutes(1), maxAttempts: 3 })),
  Layer.provideMerge(Postgres.layer())
)

/** A row of the queue and its call, as a hand may write them. */
interface Stored {
  readonly callId?: string
  readonly namespace?: string
  readonly schema?: string
  readonly version?: number
  readonly part?: string
  readonly position?: number
  /** JSON text of the call's outputs. */
  readonly outputs?: string
  readonly withoutCall?: boolean
  readonly finishedAt?: string
}

const output = (data: string) => `[{"schema": "${Note.identity}", "version": 2, "data": ${data}}]`
const deep = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`

const table: ReadonlyArray<readonly [name: string, stored: Stored, end: string]> = [
  ["a good one", {}, "persisted"],
  ["outputs that are null", { outputs: "null" }, "dead: undecodable"],
  ["outputs that are no list", { outputs: "{\"a\": 1}" }, "dead: undecodable"],
  ["outputs that are a text", { outputs: "\"a\"" }, "dead: undecodable"],
  ["an empty list", { outputs: "[]" }, "dead: undecodable"],
  ["no call at all", { withoutCall: true }, "dead: undecodable"],
  ["a position beyond the list", { position: 7 }, "dead: undecodable"],
  ["an output without data", { outputs: `[{"schema": "${Note.identity}"}]` }, "dead: undecodable"],
  ["data that is null", { outputs: output("null") }, "dead: undecodable"],
  ["a missing field", { outputs: output("{}") }, "dead: undecodable"],
  ["a field of another type", { outputs: output("{\"text\": [\"a\"]}") }, "dead: undecodable"],
  ["a date out of range", { outputs: output("{\"text\": \"a\", \"at\": \"300000-99-99\"}") }, "dead: undecodable"],
  ["a number beyond all doubles", { outputs: output(`{"text": 1${"0".repeat(400)}}`) }, "dead: undecodable"],
  ["100 levels", { outputs: output(`{"text": ${deep(100)}}`) }, "dead: undecodable"],
  ["5,000 levels", { outputs: output(`{"text": ${deep(5000)}}`) }, "dead: undecodable"],
  ["10 MB of text", { outputs: output(`{"text": "${"x".repeat(10_000_000)}"}`) }, "persisted"],
  ["10 MB where a text should be", {
    outputs: output(`[${Array.from({ length: 500_000 }, () => "{\"a\": 1}").join()}]`)
  }, "dead: undecodable"],
  ["a field too many", { outputs: output("{\"text\": \"a\", \"more\": 1}") }, "persisted"],
  ["version 1", { version: 1, outputs: output("{\"words\": [\"a\", \"b\"]}") }, "persisted"],
  ["version 1 that its upcast chokes on", { version: 1, outputs: output("{\"words\": null}") }, "dead: undecodable"],
  ["a version of the future", { version: 3 }, "dead: unknown-version"],
  ["version 0", { version: 0 }, "dead: unknown-version"],
  ["a version below 0", { version: -2147483648 }, "dead: unknown-version"],
  ["a schema nobody knows", { schema: "schemas.clinic.ward.unheard-of" }, "parked"],
  ["a schema that is none", { schema: "'; drop table note; --" }, "parked"],
  ["an empty schema", { schema: "" }, "parked"],
  ["a namespace nobody knows", { namespace: "clinc" }, "parked"],
  ["a hostile namespace", { namespace: "__proto__" }, "parked"],
  ["a namespace of emoji", { namespace: "🩺\n\u202e" }, "parked"],
  ["a hostile id", { callId: "'; drop table note; --\n\t\u202e🩺" }, "persisted"],
  ["an id with the part of another", { callId: `x ${Note.identity}#y` }, "persisted"],
  ["a hostile part", { part: "'; drop table note; -- 🩺" }, "persisted"],
  ["a time out of range", { finishedAt: "290000-01-01" }, "persisted"],
  ["a time without end", { finishedAt: "infinity" }, "persisted"]
]

layer(application, { excludeTestServices: true, timeout: 60_000 })("stored by hand", (it) => {
  it.effect("each comes to its end, in one drain", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create table note (id serial primary key, call_id text not null, content text not null)`
      for (const [index, [, stored]] of table.entries()) {
        const callId = stored.callId ?? `call-${index}`
        const { finishedAt = "2026-01-01", namespace = "clinic", part = "", position = 0, schema = Note.identity } =
          stored
        if (stored.withoutCall !== true) {
          yield* sql`
            insert into sluice.service_call (call_id, namespace, service, correlation_id, status, outputs, finished_at)
            values (${callId}, ${namespace}, 'services.clinic.ward.take-notes', ${callId}, 'succeeded',
              ${stored.outputs ?? output("{\"text\": \"a note\"}")}::jsonb, ${finishedAt}::timestamptz)`
        }
        yield* sql`
          insert into sluice.chunk_queue (call_id, namespace, schema_identity, part, schema_version, position)
          values (${callId}, ${namespace}, ${schema}, ${part}, ${stored.version ?? 2}, ${position})`
      }

      const report = yield* Effect.flatMap(Drain, (drain) => drain.untilEmpty)

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
      const found = table.map(([name, { callId }], index) => [name, ends.get(callId ?? `call-${index}`)])
      expect(found).toEqual(table.map(([name, , end]) => [name, end]))
      expect(report).toMatchObject({ claimed: table.length, failed: 0, released: 0 })
      // nobody was charged for what is not a handler's fault
      expect(yield* sql`select call_id from sluice.dead_letter where attempts > 0`).toEqual([])
    }), 60_000)
})
