/**
 * A story of paid answers that is cut in every place: a run with two answers, an answer that did not fit and is decoded
 * again, a list with a bad element, a call that is erased and delivered again, and a rejected answer that is asked for
 * again. Whoever tells it again, as programs do that did not hear of its end, changes nothing.
 */
import {
  CallRecorder,
  type DeadLetters,
  DomainEvents,
  DomainObject,
  Drain,
  Erasure,
  Handler,
  HandlerPlugin,
  HandlerRegistry,
  InvalidAnswers,
  Output,
  RejectedAnswers,
  type ServiceCall,
  Settings
} from "effect-sluice"
import type { CallFacts } from "effect-sluice/CallFacts"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"

class Finding extends Output.make("schemas.clinic.ward.finding", {
  schema: Schema.Struct({ code: Schema.String })
}) {}

const registry = HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer(
  "clinic",
  Finding,
  Effect.map(SqlClient.SqlClient, (sql) => ({
    persist: Effect.fnUntraced(function*({ call, output }) {
      if (output.code === "no-knee") return yield* new Handler.HandlerRejected({ reason: "the patient has no knee" })
      const rows = yield* sql<{ id: number }>`
        insert into finding (call_id, code) values (${call.callId}, ${output.code}) returning id`
      return rows.map((row) => DomainObject.make("clinic.Finding", row.id))
    })
  }))
)))

/** All that the story needs, on tables that are there. */
export const application = Layer.mergeAll(CallRecorder.layer, Drain.layer).pipe(
  Layer.provideMerge(registry),
  Layer.provideMerge(PgStore.layerStorage),
  Layer.provide(DomainEvents.layer),
  // a lease nobody sees the end of: the test says when it ran out
  Layer.provideMerge(Settings.layer({ lease: Duration.minutes(10), notify: false, listen: false }))
)

const spec = (callId: string, facts: CallFacts = {}): ServiceCall.CallSpec => ({
  callId,
  namespace: "clinic",
  service: "services.clinic.ward.list-findings",
  facts: { promptName: callId, ...facts }
})
const outputOf = (code: string) => ({ schema: Finding.identity, version: 1, data: { code } })
const recorded = (callId: string, code: string): ServiceCall.ServiceCall => ({
  ...spec(callId, { requestModel: "m", inputTokens: 1 }),
  outputs: [outputOf(code)]
})
const listed: ServiceCall.ServiceCall = {
  ...spec("list", { requestModel: "m", inputTokens: 1 }),
  outputs: Finding.each([{ code: "one" }, { code: 2 }, { code: "three" }])
}
const answerOf = (text: string, inputTokens: number) => ({ text, facts: { requestModel: "m", inputTokens } })

class DoesNotFit extends Data.TaggedError("DoesNotFit") {}

const asked = Effect.gen(function*() {
  const recorder = yield* CallRecorder.CallRecorder
  yield* recorder.run(spec("run"), (run) =>
    Effect.gen(function*() {
      yield* run.answered(answerOf("{", 10))
      yield* run.refused("it is no JSON")
      yield* run.answered(answerOf(`{"code":"two"}`, 10))
      return [outputOf("two")]
    }))
  // a call that is known to be invalid is not asked again
  const before = Option.getOrUndefined(yield* recorder.find("unfit"))
  if (before?.status === "invalid") return
  const failing = recorder.run(
    spec("unfit"),
    (run) => Effect.andThen(run.answered(answerOf(`{"code":"mended"}`, 100)), new DoesNotFit())
  )
  yield* Effect.catchTag(failing, "DoesNotFit", () => Effect.void)
})

const repaired = (callId: string) =>
  RejectedAnswers.repair(
    { callId, schemaIdentity: Finding.identity, part: "" },
    { most: 1 },
    (_, run) => Effect.as(run.answered(answerOf(`{"code":"elbow"}`, 1000)), outputOf("elbow"))
  )

/** The story. */
export const story: Effect.Effect<
  void,
  unknown,
  | CallRecorder.CallRecorder
  | DeadLetters.DeadLetters
  | Erasure.Erasure
  | Layer.Success<typeof application>
> = Effect.gen(function*() {
  const recorder = yield* CallRecorder.CallRecorder
  yield* asked
  yield* Effect.catchTag(InvalidAnswers.decode("unfit"), "NotDecoded", () => Effect.void)
  yield* recorder.record(listed)
  const erasure = yield* Erasure.Erasure
  yield* erasure.erase(Erasure.Subject.Call({ callId: "erased" }), { because: "asked for", by: "clerk" })
  const again = yield* recorder.record(recorded("erased", "one"))
  if (again !== "erased") return yield* Effect.die(new Error(`the erased call is ${again}`))
  yield* repaired("rejected")
})

/** Makes the tables. */
export const prepare = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.scoped(Layer.build(PgStore.layer))
  yield* sql`create table finding (id serial primary key, call_id text not null, code text not null)`
})

const cycle = Drain.Drain.use((drain) => drain.cycle)

/** Empties the tables; a rejected answer is there, and a call that will be erased. */
export const reset = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    truncate finding, sluice.service_call, sluice.call_attempt, sluice.usage_entry, sluice.usage_total,
      sluice.chunk_queue, sluice.persisted_chunk, sluice.dead_letter, sluice.chunk_failure, sluice.erasure`
  const recorder = yield* CallRecorder.CallRecorder
  yield* recorder.record(recorded("rejected", "no-knee"))
  yield* cycle
  yield* recorder.record(recorded("erased", "one"))
})

/** The leases of the dead end, the story is told again, and all is drained. */
export const recover = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`update sluice.service_call set run_until = now() - interval '1 second' where run_token is not null`
  yield* story
  while (true) {
    yield* cycle
    const rows = yield* sql`select from sluice.chunk_queue`
    if (rows.length === 0) return
  }
})

/** All that must be the same, whatever happened on the way. */
export const picture = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return {
    findings: yield* sql`select call_id, code from finding order by call_id, code`,
    calls: yield* sql`
      select call_id, status, erasure is not null as erased, facts ->> 'promptName' as fact, run_token,
        array_to_json(outputs)::text as outputs
      from sluice.service_call order by call_id`,
    attempts: yield* sql`
      select call_id, outcome, text, facts ->> 'inputTokens' as tokens from sluice.call_attempt
      order by call_id, answered_at, place`,
    usage: yield* sql`
      select sum(calls)::int as calls, sum(invalid)::int as invalid, sum(attempts)::int as attempts,
        sum(input_tokens)::int as tokens
      from (
        select calls, invalid, attempts, input_tokens from sluice.usage_entry
        union all select calls, invalid, attempts, input_tokens from sluice.usage_total
      ) u`,
    ledger: yield* sql`select call_id, part from sluice.persisted_chunk order by call_id, part`,
    dead: yield* sql`select call_id, part, reason from sluice.dead_letter order by call_id, part`,
    failures: yield* sql`select call_id, kind from sluice.chunk_failure order by call_id, id`,
    erasures: yield* sql`select sum(calls)::int as calls, sum(chunks)::int as chunks from sluice.erasure`
  }
})
