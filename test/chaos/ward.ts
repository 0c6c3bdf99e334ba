/**
 * The application that suffers: notes whose handlers fail, hang, throw, outlive their lease, or kill their process.
 */
import { DomainObject, Handler, HandlerPlugin, HandlerRegistry, Output, Settings } from "effect-sluice"
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

/** Failed attempts until a note is dead. */
export const maxAttempts = 3

/** How long a worker that is told to stop lets its handlers finish. */
export const gracePeriod = Duration.seconds(3)

/** Short, so that much happens in little time. */
export const settings = Settings.layer({
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
  maxCrashes: 3
})

const handler = Effect.map(SqlClient.SqlClient, (sql) => ({
  retry: Schedule.spaced("500 millis"),
  persist: Effect.fnUntraced(function*({ call, output }: {
    readonly output: typeof Note.schema.Type
    readonly call: { readonly callId: string; readonly attempt: number; readonly orderingKey: string | undefined }
  }) {
    const { fate, rows, times, writesFirst } = output
    const bed = call.orderingKey ?? null
    // by this process' own clock, which may be wrong
    const now = DateTime.formatIso(yield* DateTime.now)
    const one = Effect.gen(function*() {
      if (bed !== null) yield* sql`update bed set notes = notes + 1 where name = ${bed}`
      const rows = yield* sql<{ id: string }>`
        insert into note (call_id, ordering_key, written_at) values (${call.callId}, ${bed}, ${now}) returning id::text`
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

/** The registry of notes. */
export const registry = HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer("clinic", Note, handler)))
