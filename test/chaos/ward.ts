/**
 * The application that suffers: notes whose handlers fail, hang, throw, outlive their lease, or kill their process; memos,
 * whose handler takes a batch at once; and charts and entries, whose handlers are declared.
 */
import { DomainObject, Handler, HandlerPlugin, HandlerRegistry, Output, Settings, TableHandler } from "effect-sluice"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"

/** What a note's handler does, and so what must become of it. */
export const Fate = Schema.Literals(["creates", "slow", "fails", "throws", "hangs", "exhausts", "rejects", "kills"])
/** What a note's handler does. */
export type Fate = typeof Fate.Type

/** A note. */
export class Note extends Output.make("schemas.clinic.ward.note", {
  version: 1,
  schema: Schema.Struct({
    fate: Fate,
    /** How many attempts the trouble lasts. */
    times: Schema.Int,
    rows: Schema.Int,
    /** Whether the rows are written before the trouble comes. */
    writesFirst: Schema.Boolean
  })
}) {}

/** A memo: one note. Its handler takes a batch. */
export class Memo extends Output.make("schemas.clinic.ward.memo", {
  schema: Schema.Struct({ fails: Schema.Boolean })
}) {}

/** A chart, declared: the store makes a row of each line. */
export class Chart extends Output.make("schemas.clinic.ward.chart", {
  version: 2,
  schema: Schema.Struct({ lines: Schema.Array(Schema.Struct({ text: Schema.String })) }),
  upcasts: {
    1: Output.upcast(
      Schema.Struct({ texts: Schema.Array(Schema.String) }),
      ({ texts }) => ({ lines: texts.map((text) => ({ text })) })
    )
  }
}) {}

/** A chart as older programs recorded it. */
export class OldChart extends Output.make("schemas.clinic.ward.chart", {
  version: 1,
  schema: Schema.Struct({ texts: Schema.Array(Schema.String) })
}) {}

/** An entry, declared: one row, of a ward that the call's context names. */
export class Entry extends Output.make("schemas.clinic.ward.entry", {
  schema: Schema.Struct({ text: Schema.String })
}) {}

/** The text of a row that the table of charts and entries refuses. */
export const refused = "refused"

/** Failed attempts until a note is dead. */
export const maxAttempts = 3

/** How long a worker that is told to stop lets its handlers finish. */
export const gracePeriod = Duration.seconds(3)

/**
 * Short, so that much happens in little time. `declaredInside`: whether the server persists charts and entries by itself.
 */
export const settingsWith = (declaredInside: boolean) =>
  Settings.layer({
    batchSize: 50,
    inFlight: 2,
    lease: Duration.seconds(2),
    // longer than a worker is ever frozen: time that a process did not have is not its handler's
    handlerTimeout: Duration.seconds(8),
    statementTimeout: Duration.seconds(2),
    pollInterval: Duration.millis(300),
    beatInterval: Duration.millis(500),
    gracePeriod,
    maxAttempts,
    maxCrashes: 3,
    declaredInside
  })

const retry = { retry: Schedule.spaced("500 millis") }

const handler = Effect.map(SqlClient.SqlClient, (sql) => ({
  ...retry,
  persist: Effect.fnUntraced(function*({ call, output }: {
    readonly output: typeof Note.schema.Type
    readonly call: {
      readonly callId: string
      readonly part: string
      readonly attempt: number
      readonly orderingKey: string | undefined
    }
  }) {
    const { fate, rows, times, writesFirst } = output
    const bed = call.orderingKey ?? null
    // by this process' own clock, which may be wrong
    const now = DateTime.formatIso(yield* DateTime.now)
    const one = Effect.gen(function*() {
      if (bed !== null) yield* sql`update bed set notes = notes + 1 where name = ${bed}`
      const rows = yield* sql<{ id: string }>`
        insert into note (call_id, part, ordering_key, written_at) values (${call.callId}, ${call.part}, ${bed}, ${now})
        returning id::text`
      return DomainObject.make("clinic.Note", rows[0]?.id ?? "")
    })
    const write = Effect.forEach(Array.from({ length: rows }), () => one)
    const before = writesFirst ? yield* write : []
    const inTrouble = call.attempt <= times
    if (fate === "slow") yield* Effect.sleep("3 seconds")
    if (fate === "fails" && inTrouble) return yield* Effect.fail("it fails at first")
    if (fate === "throws" && inTrouble) return yield* Effect.die(new Error("it throws at first"))
    if (fate === "hangs" && inTrouble) return yield* Effect.never
    if (fate === "exhausts") return yield* Effect.fail("it always fails")
    if (fate === "rejects") return yield* new Handler.HandlerRejected({ reason: "the ward is closed" })
    if (fate === "kills") process.kill(process.pid, "SIGKILL")
    return writesFirst ? before : yield* write
  })
}))

const notes = HandlerPlugin.layer("clinic", Note, handler)

const memos = HandlerPlugin.layer(
  "clinic",
  Memo,
  Effect.map(SqlClient.SqlClient, (sql) => ({
    ...retry,
    persistMany: Effect.fnUntraced(function*(inputs: ReadonlyArray<Handler.HandlerInput<typeof Memo.schema.Type>>) {
      const now = DateTime.formatIso(yield* DateTime.now)
      const made = []
      for (const { call } of inputs) {
        const bed = call.orderingKey ?? null
        if (bed !== null) yield* sql`update bed set notes = notes + 1 where name = ${bed}`
        const rows = yield* sql<{ id: string }>`
          insert into note (call_id, part, ordering_key, written_at) values (${call.callId}, ${call.part}, ${bed}, ${now})
          returning id::text`
        made.push(rows.map(({ id }) => DomainObject.make("clinic.Note", id)))
      }
      // after the rows are written: they are to be taken back, and the mates to be written again
      if (inputs.some(({ call, output }) => output.fails && call.attempt === 1)) {
        return yield* Effect.fail("it fails at first")
      }
      return made
    })
  }))
)

const declared = { table: "entry", object: "clinic.Entry", ...retry }
const charts = HandlerPlugin.layer(
  "clinic",
  Chart,
  TableHandler.make(Chart, {
    ...declared,
    each: ({ output }) => output.lines,
    columns: ({ call, item, place }) => ({
      call_id: call.callId,
      part: call.part,
      ordering_key: call.orderingKey,
      place,
      text: item.text
    })
  })
)
const entries = HandlerPlugin.layer(
  "clinic",
  Entry,
  TableHandler.make(Entry, {
    ...declared,
    columns: ({ call, output }) => ({
      call_id: call.callId,
      part: call.part,
      ordering_key: call.orderingKey,
      ward: call.context("ward"),
      place: 1,
      text: output.text
    })
  })
)

/** The registry of them all. One on top of the other: a plug-in adds to those before it. */
export const registry = HandlerRegistry.layer().pipe(
  Layer.provide(entries),
  Layer.provide(charts),
  Layer.provide(memos),
  Layer.provide(notes)
)
