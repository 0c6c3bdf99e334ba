/**
 * The messages of a simulation, numbered 1, 2, 3, … within it.
 */
import { MemoryDatabase, table } from "effect-sluice/store/MemoryDatabase"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlResolver from "effect/sql/SqlResolver"
import type { TableError } from "./tables.ts"

/** A message to write. Its simulation must exist. */
export const NewMessage = Schema.Struct({
  simulationId: Schema.String,
  role: Schema.String,
  content: Schema.String,
  imageRequested: Schema.Boolean,
  callId: Schema.String
})
/** A message to write. */
export interface NewMessage extends Schema.Schema.Type<typeof NewMessage> {}

/** A row of `chatlab.message`. */
export const Message = Schema.Struct({ ...NewMessage.fields, id: Schema.String, order: Schema.Int })
/** A row of `chatlab.message`. */
export interface Message extends Schema.Schema.Type<typeof Message> {}

/** The messages in memory, by id. */
export const memoryTable = table<Message>("chatlab.message")

/** The table `chatlab.message`. */
export class Messages extends Context.Service<Messages, {
  /** Adds a message at the end of its simulation. Concurrent requests become one statement, in the order of the requests. */
  readonly insert: (message: NewMessage) => Effect.Effect<Message, TableError>
  /** All messages, those of a simulation in their order. */
  readonly list: Effect.Effect<ReadonlyArray<Message>, TableError>
}>()("chatlab/Messages") {
  static readonly layerPg = Layer.effect(
    Messages,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(`id::text as id, simulation_id as "simulationId", "order", role, content,
        image_requested as "imageRequested", call_id as "callId"`)
      const insert = SqlResolver.request(SqlResolver.ordered({
        Request: NewMessage,
        Result: Message,
        // Continues from the highest number of each simulation. That cannot race: `touch` locks the simulation's row.
        // Without that lock the unique constraint refuses the row, and the chunk is retried.
        execute: (asked) =>
          sql`with numbered as (
              select asked.*, coalesce(
                (select max(m."order") from chatlab.message m where m.simulation_id = asked.simulation_id), 0
              ) + (row_number() over (partition by simulation_id order by position))::int as "order"
              from unnest(
                ${asked.map((one) => one.simulationId)}::text[], ${asked.map((one) => one.role)}::text[],
                ${asked.map((one) => one.content)}::text[], ${asked.map((one) => one.imageRequested)}::boolean[],
                ${asked.map((one) => one.callId)}::text[]
              ) with ordinality as asked (simulation_id, role, content, image_requested, call_id, position)
            ), inserted as (
              insert into chatlab.message (simulation_id, "order", role, content, image_requested, call_id)
              select simulation_id, "order", role, content, image_requested, call_id from numbered order by position
              returning *
            )
            select ${columns} from inserted
            join (select simulation_id, "order", position from numbered) as wanted using (simulation_id, "order")
            order by position`
      }))
      const list = Effect.flatMap(
        sql`select ${columns} from chatlab.message order by simulation_id, "order"`,
        Schema.decodeUnknownEffect(Schema.Array(Message))
      )
      return Messages.of({ insert, list })
    })
  )

  static readonly layerMemory = Layer.effect(
    Messages,
    Effect.gen(function*() {
      const db = yield* MemoryDatabase
      const highest = table<number>("chatlab.message.order")
      const insert = Effect.fnUntraced(function*(message: NewMessage) {
        const id = String(yield* db.next("chatlab.message"))
        return yield* db.use((access) => {
          const order = (access.get(highest, message.simulationId) ?? 0) + 1
          const row: Message = { ...message, id, order }
          access.set(highest, message.simulationId, order)
          access.set(memoryTable, id, row)
          return row
        })
      })
      const list = Effect.map(
        db.use((access) => access.values(memoryTable)),
        (rows) =>
          rows.toSorted((a, b) =>
            a.simulationId === b.simulationId ? a.order - b.order : a.simulationId < b.simulationId ? -1 : 1
          )
      )
      return Messages.of({ insert, list })
    })
  )
}
