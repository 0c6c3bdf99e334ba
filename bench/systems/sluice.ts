/**
 * Sluice as an application would run it: a worker with leases, fencing, ledger, ordering, live and durable events and
 * metrics, on its own pool.
 */
import { PgClient } from "@effect/sql-pg"
import {
  CallRecorder,
  DomainEvents,
  DomainObject,
  Drain,
  DrainWorker,
  HandlerRegistry,
  Output,
  OutputGroup,
  ServiceCall,
  Settings,
  TableHandler
} from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlResolver from "effect/sql/SqlResolver"
import * as Stream from "effect/Stream"
import type { Call } from "../work.ts"
import type { System } from "./system.ts"

/** What was recorded. */
export class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  version: 1,
  schema: Schema.Struct({
    role: Schema.Literals(["patient", "doctor"]),
    content: Schema.String,
    metadata: Schema.Struct({
      model: Schema.String,
      language: Schema.String,
      tokens: Schema.Struct({ input: Schema.Int, output: Schema.Int }),
      tags: Schema.Array(Schema.String),
      rubric: Schema.Array(Schema.Struct({ key: Schema.String, value: Schema.String }))
    })
  })
}) {}

/** The group. */
export const Chatlab = OutputGroup.make("chatlab", PatientReply)

const NewMessage = Schema.Struct({
  callId: Schema.String,
  role: Schema.String,
  content: Schema.String,
  metadata: Schema.String
})
type NewMessage = typeof NewMessage.Type
const MessageId = Schema.Struct({ id: Schema.String })

/** When a failed record is tried again. */
export interface HandlerOptions {
  readonly retry?: Schedule.Schedule<unknown>
}

/** One statement for all messages asked for at once, in the order asked. */
export const insertMany = (sql: SqlClient.SqlClient, messages: ReadonlyArray<NewMessage>) =>
  sql<{ id: string }>`
    insert into bench.message (call_id, role, content, metadata)
    select call_id, role, content, metadata::jsonb
    from unnest(
      ${messages.map((one) => one.callId)}::text[], ${messages.map((one) => one.role)}::text[],
      ${messages.map((one) => one.content)}::text[], ${messages.map((one) => one.metadata)}::text[]
    ) with ordinality as m(call_id, role, content, metadata, n)
    order by n
    returning id::text as id`

/** The message an output becomes. */
export const newMessage = (callId: string, output: typeof PatientReply.schema.Type): NewMessage => ({
  callId,
  role: output.role,
  content: output.content,
  metadata: JSON.stringify(output.metadata)
})

/** A repository that is asked for one message and merges what is asked at once. */
export const messages = Effect.map(SqlClient.SqlClient, (sql) =>
  SqlResolver.request(SqlResolver.ordered({
    Request: NewMessage,
    Result: MessageId,
    execute: (asked) => insertMany(sql, asked)
  })))

/** The handler for one chunk, whose repository merges what is asked of it at once. */
export const perRecord = Chatlab.toLayer(Effect.gen(function*() {
  const insert = yield* messages
  return Chatlab.of({
    "patient-reply": {
      isolation: "together",
      persist: ({ call, output }) =>
        Effect.map(insert(newMessage(call.callId, output)), ({ id }) => DomainObject.make("bench.Message", id))
    }
  })
}))

/** The handler for one chunk that sends a statement of its own, and says nothing about it. */
export const raw = Chatlab.toLayer(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return Chatlab.of({
    "patient-reply": ({ call, output }) =>
      Effect.map(
        insertMany(sql, [newMessage(call.callId, output)]),
        (rows) => rows.map(({ id }) => DomainObject.make("bench.Message", id))
      )
  })
}))

/** The handler that fails after its statement. */
export const failing = Chatlab.toLayer(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return Chatlab.of({
    "patient-reply": ({ call, output }) =>
      Effect.andThen(insertMany(sql, [newMessage(call.callId, output)]), Effect.fail(new Error("the patient has left")))
  })
}))

/** The handler that asks for the batch itself. */
export const persistMany = (options: HandlerOptions = {}) =>
  Chatlab.toLayer(Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    return Chatlab.of({
      "patient-reply": {
        ...options,
        persistMany: (inputs) =>
          Effect.map(
            insertMany(sql, inputs.map(({ call, output }) => newMessage(call.callId, output))),
            (rows) => rows.map(({ id }) => DomainObject.make("bench.Message", id))
          )
      }
    })
  }))

/** The handler that is declared. */
export const declared = (options: HandlerOptions = {}) =>
  Chatlab.toLayer({
    "patient-reply": TableHandler.make(PatientReply, {
      ...options,
      table: "bench.message",
      object: "bench.Message",
      columns: ({ call, output }) => ({
        call_id: call.callId,
        role: output.role,
        content: output.content,
        metadata: output.metadata
      })
    })
  })

/** A call as the recorder takes it. */
export const toCall = ({ callId, payload }: Call) => ({
  callId,
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  outputs: [{ schema: PatientReply.identity, version: 1, data: { ...payload } as unknown as Schema.Json }]
})

/** The same, encoded by its schema: only that is persisted inside the server. */
export const encoded = (call: Call) =>
  Effect.map(
    PatientReply.encode({ ...call.payload, role: call.payload.role === "patient" ? "patient" : "doctor" }),
    (output) => ({ ...toCall(call), outputs: [output] })
  )

/** A client, with so many connections. */
export const client = (url: string, maxConnections: number) =>
  PgClient.layer({ url: Redacted.make(url), maxConnections })

/** Opens a Sluice with these handlers. `record` makes what is recorded of a call, which becomes so many rows. */
export const opened = (
  handlers: Layer.Layer<HandlerRegistry.HandlerRegistry, HandlerRegistry.DuplicateHandler, SqlClient.SqlClient>,
  record: (call: Call, n: number) => ServiceCall.ServiceCall,
  rows = 1
): System["open"] =>
async (url, { batch = 500, inFlight = 3 }) => {
  const scope = Scope.makeUnsafe()
  const base = Layer.mergeAll(CallRecorder.layer, handlers).pipe(
    Layer.provideMerge(Layer.merge(PgStore.layer, DomainEvents.layer)),
    Layer.provideMerge(client(url, inFlight + 2)),
    Layer.provideMerge(Settings.layer({ batchSize: batch, inFlight }))
  )
  const context = await Effect.runPromise(Layer.buildWithScope(base, scope))
  const recorder = Context.get(context, CallRecorder.CallRecorder)
  const drain = Effect.fnUntraced(function*(count: number) {
    const events = yield* (yield* DomainEvents.DomainEvents).subscribe
    const done = yield* Deferred.make<void>()
    let seen = 0
    yield* Effect.forkScoped(Stream.runForEachArray(events, (some) => {
      seen += some.length
      return seen >= count * rows ? Deferred.succeed(done, undefined) : Effect.void
    }))
    const worker = DrainWorker.layer({ schedule: Schedule.spaced("1 second"), hints: true }).pipe(
      Layer.provide(Drain.layer)
    )
    yield* Layer.build(Layer.fresh(worker))
    yield* Deferred.await(done)
  })
  return {
    fill: (calls) => Effect.runPromise(Effect.asVoid(recorder.recordMany(calls.map(record)))),
    drain: (count) => Effect.runPromise(Effect.scoped(drain(count)).pipe(Effect.provideContext(context))),
    close: () => Effect.runPromise(Scope.close(scope, Exit.void))
  }
}

const sluice = (handlers: typeof perRecord, record: (call: Call) => ServiceCall.ServiceCall = toCall) =>
  opened(HandlerRegistry.layer(Chatlab).pipe(Layer.provide(handlers)), record)

/** Handlers written for one chunk. */
export const sluicePerRecord: System = {
  about: "handlers for one chunk, repositories by SqlResolver; batch 500, 3 in flight",
  open: sluice(perRecord)
}

/** Handlers written for one chunk, each with a statement of its own. */
export const sluiceRaw: System = {
  about: "handlers for one chunk, a statement each; batch 500, 3 in flight",
  open: sluice(raw)
}

/** Handlers written for the batch. */
export const sluicePersistMany: System = {
  about: "handlers for the batch; batch 500, 3 in flight",
  open: sluice(persistMany())
}

/** The handler is a declaration, carried out inside the server. */
export const sluiceDeclared: System = {
  about: "a declared handler, inside the server",
  open: sluice(declared(), (call) => Effect.runSync(encoded(call)))
}

/** The same of answers that are no output of `Output.encode`: they are handed out, and the store makes the rows. */
export const sluiceDeclaredOutside: System = {
  about: "a declared handler, answers handed out; batch 500, 3 in flight",
  open: sluice(declared())
}
