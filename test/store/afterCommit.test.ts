/**
 * What a handler leaves for after its commit (`sql.afterCommit`) may use Sluice: its transaction has ended by then.
 */
import { layer } from "@effect/vitest"
import {
  CallRecorder,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  Settings
} from "effect-sluice"
import { ChunkStore } from "effect-sluice/ChunkStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import * as Postgres from "../support/Postgres.ts"

class Turn extends Output.make("schemas.clinic.dialogue.turn", { schema: Schema.Struct({ text: Schema.String }) }) {}
class Feedback extends Output.make("schemas.clinic.dialogue.feedback", {
  schema: Schema.Struct({ text: Schema.String })
}) {}

const call = (callId: string, schema: string) => ({
  callId,
  namespace: "clinic",
  service: "services.clinic.dialogue.reply",
  outputs: [{ schema, version: 1, data: { text: callId } }]
})

const seen: Array<boolean> = []

/** Records the feedback on a turn once the turn is committed. */
const turns = HandlerPlugin.layer("clinic", Turn, {
  persist: Effect.fnUntraced(function*({ call: { callId }, output: { text } }) {
    const sql = yield* SqlClient.SqlClient
    const recorder = yield* CallRecorder.CallRecorder
    const store = yield* ChunkStore
    yield* sql`insert into turn (text) values (${text})`
    const feedback = Effect.gen(function*() {
      const [line] = yield* store.ledger([{ callId, schemaIdentity: Turn.identity, part: "" }])
      seen.push(line !== undefined)
      yield* recorder.record(call(`${callId}-feedback`, Feedback.identity))
    })
    yield* sql.afterCommit(Effect.orDie(feedback))
    return [DomainObject.make("clinic.Turn", text)]
  })
})

const application = Layer.merge(Drain.layer, CallRecorder.layer).pipe(
  Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(turns), Layer.provide(CallRecorder.layer), Layer.fresh)),
  Layer.provide(DomainEvents.layer),
  Layer.provideMerge(Layer.merge(
    PgStore.layer,
    Layer.effectDiscard(SqlClient.SqlClient.use((sql) => sql`create table turn (text text not null)`))
  )),
  Layer.provideMerge(Settings.layer()),
  Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer())))
)

layer(application, { excludeTestServices: true, timeout: 60_000 })("after the commit of a handler", (it) => {
  it.effect("a call is recorded, by each way that runs the handler", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const drain = yield* Drain.Drain
      const recorder = yield* CallRecorder.CallRecorder
      yield* recorder.record(call("drained", Turn.identity))
      yield* drain.cycle
      yield* recorder.record(call("inline", Turn.identity))
      yield* drain.persistNow("inline")
      yield* drain.recordNow(call("at once", Turn.identity))
      expect(seen).toEqual([true, true, true])
      const rows = yield* sql<{ id: string }>`
        select call_id as id from sluice.service_call where call_id like '%-feedback' order by recorded_at`
      expect(rows.map(({ id }) => id)).toEqual(["drained-feedback", "inline-feedback", "at once-feedback"])
    }))
})
