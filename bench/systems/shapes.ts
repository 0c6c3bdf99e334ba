/**
 * Other shapes of work than one kind of answer that becomes one row: answers of four kinds, and answers that become ten
 * rows.
 */
import { DomainObject, HandlerRegistry, Output, OutputGroup, type ServiceCall, TableHandler } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { Call } from "../work.ts"
import { limitOf } from "./limit.ts"
import { insertMany, newMessage, opened, PatientReply, toCall } from "./sluice.ts"
import type { System } from "./system.ts"

const { schema } = PatientReply

class OpeningLine extends Output.make("schemas.chatlab.standardized_patient.opening-line", { version: 1, schema }) {}
class ClosingLine extends Output.make("schemas.chatlab.standardized_patient.closing-line", { version: 1, schema }) {}
class Interjection extends Output.make("schemas.chatlab.standardized_patient.interjection", { version: 1, schema }) {}

const kinds = [PatientReply, OpeningLine, ClosingLine, Interjection]
const Mixed = OutputGroup.make("chatlab", PatientReply, OpeningLine, ClosingLine, Interjection)

/** A call whose answer is of the next of the four kinds. */
const ofSomeKind = (call: Call, n: number): ServiceCall.ServiceCall => ({
  ...toCall(call),
  outputs: [Effect.runSync(kinds[n % kinds.length]!.encode(call.payload))]
})

const message = {
  table: "bench.message",
  object: "bench.Message",
  columns: ({ call, output }: TableHandler.RowFields<typeof schema.Encoded, never, never>) => ({
    call_id: call.callId,
    role: output.role,
    content: output.content,
    metadata: output.metadata
  })
}

const mixedDeclared = Mixed.toLayer({
  "patient-reply": TableHandler.make(PatientReply, message),
  "opening-line": TableHandler.make(OpeningLine, message),
  "closing-line": TableHandler.make(ClosingLine, message),
  interjection: TableHandler.make(Interjection, message)
})

/** A handler for the batch, for any of the four kinds. */
const messageProgram = Effect.map(SqlClient.SqlClient, (sql) => ({
  persistMany: (
    inputs: ReadonlyArray<{ readonly call: { readonly callId: string }; readonly output: typeof schema.Type }>
  ) =>
    Effect.map(
      insertMany(sql, inputs.map(({ call, output }) => newMessage(call.callId, output))),
      (rows) => rows.map(({ id }) => DomainObject.make("bench.Message", id))
    )
}))

const mixedMany = Mixed.toLayer(Effect.map(messageProgram, (program) => ({
  "patient-reply": program,
  "opening-line": program,
  "closing-line": program,
  interjection: program
})))

const mixedBoth = Mixed.toLayer(Effect.map(messageProgram, (program) => ({
  "patient-reply": TableHandler.make(PatientReply, message),
  "opening-line": TableHandler.make(OpeningLine, message),
  "closing-line": program,
  interjection: program
})))

const mixed = (handlers: typeof mixedMany) =>
  opened(HandlerRegistry.layer(Mixed).pipe(Layer.provide(handlers)), ofSomeKind)

/** Four kinds, all declared. */
export const sluiceMixedDeclared: System = { about: "four kinds, declared", open: mixed(mixedDeclared) }

/** Four kinds, each with a handler for the batch. */
export const sluiceMixedMany: System = { about: "four kinds, handlers for the batch", open: mixed(mixedMany) }

/** Four kinds, two of them declared. */
export const sluiceMixedBoth: System = {
  about: "four kinds, two declared, two with handlers for the batch",
  open: mixed(mixedBoth)
}

/** How many rows an answer with lines becomes. */
export const linesOfDialogue = 10

const Line = Schema.Struct({
  role: Schema.String,
  content: Schema.String,
  metadata: Schema.Struct({ language: Schema.String })
})

class Dialogue extends Output.make("schemas.chatlab.standardized_patient.dialogue", {
  version: 1,
  schema: Schema.Struct({ lines: Schema.Array(Line) })
}) {}

const Dialogues = OutputGroup.make("chatlab", Dialogue)

/** The same content, cut into lines. */
const dialogueOf = ({ payload: { content, metadata: { language }, role } }: Call): typeof Dialogue.schema.Type => {
  const length = Math.ceil(content.length / linesOfDialogue)
  return {
    lines: Array.from({ length: linesOfDialogue }, (_, n) => ({
      role,
      content: content.slice(n * length, (n + 1) * length),
      metadata: { language }
    }))
  }
}

const dialogueDeclared = Dialogues.toLayer({
  dialogue: TableHandler.make(Dialogue, {
    table: "bench.message",
    object: "bench.Message",
    each: ({ output }) => output.lines,
    columns: ({ call, item }) => ({
      call_id: call.callId,
      role: item.role,
      content: item.content,
      metadata: item.metadata
    })
  })
})

const dialogueMany = Dialogues.toLayer(Effect.map(SqlClient.SqlClient, (sql) => ({
  dialogue: {
    persistMany: (inputs) => {
      const rows = inputs.flatMap(({ call, output }) =>
        output.lines.map((line) => ({ ...line, callId: call.callId, metadata: JSON.stringify(line.metadata) }))
      )
      return Effect.map(insertMany(sql, rows), (written) => {
        const objects = written.map(({ id }) => DomainObject.make("bench.Message", id))
        let from = 0
        return inputs.map(({ output: { lines } }) => objects.slice(from, from += lines.length))
      })
    }
  }
})))

const dialogues = (handlers: typeof dialogueMany) =>
  opened(
    HandlerRegistry.layer(Dialogues).pipe(Layer.provide(handlers)),
    (call) => ({ ...toCall(call), outputs: [Effect.runSync(Dialogue.encode(dialogueOf(call)))] }),
    linesOfDialogue
  )

/** Ten rows an answer, declared. */
export const sluiceEachDeclared: System = { about: "ten rows an answer, declared", open: dialogues(dialogueDeclared) }

/** Ten rows an answer, by a handler for the batch. */
export const sluiceEachMany: System = {
  about: "ten rows an answer, a handler for the batch",
  open: dialogues(dialogueMany)
}

/** The limit with ten rows an answer. Its ledger names the first. */
export const limitEach: System = {
  about: "one statement a batch inside the server, ten rows an answer",
  open: limitOf(
    `
    with gone as (
      delete from limit_queue where seq = any($1::bigint[]) and lease_token = $2 returning call_id
    ), row as materialized (
      select c.call_id, line.value as line, line.place, nextval(pg_get_serial_sequence('bench.message', 'id')) as id
      from gone join limit_call c using (call_id)
      cross join jsonb_array_elements(c.payload -> 'lines') with ordinality as line(value, place)
    ), made as (
      insert into bench.message (id, call_id, role, content, metadata) overriding system value
      select id, call_id, line ->> 'role', line ->> 'content', line -> 'metadata' from row
    ), kept as (
      insert into limit_ledger (call_id, schema_identity, handler, object_id)
      select call_id, 'schemas.chatlab.standardized_patient.dialogue', 'chatlab/dialogue', id from row where place = 1
      returning 1
    )
    select count(*)::int as kept from kept`,
    dialogueOf
  )
}
