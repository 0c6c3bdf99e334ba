/**
 * The findings about a simulation, under keys that are unique within it.
 */
import { MemoryDatabase, table } from "effect-sluice/store/MemoryDatabase"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlResolver from "effect/sql/SqlResolver"
import type { TableError } from "./tables.ts"

/** A finding to write. Its simulation must exist. */
export const NewMetadata = Schema.Struct({
  simulationId: Schema.String,
  key: Schema.String,
  value: Schema.String,
  callId: Schema.String
})
/** A finding to write. */
export interface NewMetadata extends Schema.Schema.Type<typeof NewMetadata> {}

/** A row of `chatlab.simulation_metadata`. */
export const MetadataRow = Schema.Struct({ ...NewMetadata.fields, id: Schema.String })
/** A row of `chatlab.simulation_metadata`. */
export interface MetadataRow extends Schema.Schema.Type<typeof MetadataRow> {}

const nameOf = ({ key, simulationId }: { readonly simulationId: string; readonly key: string }): string =>
  JSON.stringify([simulationId, key])

/**
 * Gives a finding a key that is free in its simulation: its own, or else `key-2`, `key-3`, … An answer that names a key
 * twice, or two answers with the same key, lose nothing: overwriting would silently drop a paid finding.
 */
const withFreeKey = <Asked extends NewMetadata>(asked: Asked, isTaken: (name: string) => boolean): Asked => {
  let named = asked
  for (let n = 2; isTaken(nameOf(named)); n++) named = { ...asked, key: `${asked.key}-${n}` }
  return named
}

/** The table `chatlab.simulation_metadata`. */
export class Metadata extends Context.Service<Metadata, {
  /** Writes a finding under its key, or under the next free variant. Concurrent requests become one insert. */
  readonly insert: (metadata: NewMetadata) => Effect.Effect<MetadataRow, TableError>
  /** All findings, those of a simulation in the order in which they were written. */
  readonly list: Effect.Effect<ReadonlyArray<MetadataRow>, TableError>
}>()("chatlab/Metadata") {
  static readonly layerPg = Layer.effect(
    Metadata,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(`id::text as id, simulation_id as "simulationId", key, value, call_id as "callId"`)
      const insert = SqlResolver.request(SqlResolver.ordered({
        Request: NewMetadata,
        Result: MetadataRow,
        // two statements, atomic because `touch` has locked the simulation's row
        execute: Effect.fnUntraced(function*(asked) {
          const taken = yield* sql<{ simulationId: string; key: string }>`
            select simulation_id as "simulationId", key from chatlab.simulation_metadata
            where simulation_id = any(${asked.map((one) => one.simulationId)}::text[])`
          const names = new Set(taken.map(nameOf))
          const named = asked.map((one) => {
            const free = withFreeKey(one, (name) => names.has(name))
            names.add(nameOf(free))
            return free
          })
          return yield* sql`with asked as (
              select * from unnest(
                ${named.map((one) => one.simulationId)}::text[], ${named.map((one) => one.key)}::text[],
                ${named.map((one) => one.value)}::text[], ${named.map((one) => one.callId)}::text[]
              ) with ordinality as asked (simulation_id, key, value, call_id, position)
            ), inserted as (
              insert into chatlab.simulation_metadata (simulation_id, key, value, call_id)
              select simulation_id, key, value, call_id from asked order by position
              returning *
            )
            select ${columns} from inserted
            join (select simulation_id, key, position from asked) as wanted using (simulation_id, key)
            order by position`
        })
      }))
      const list = Effect.flatMap(
        sql`select ${columns} from chatlab.simulation_metadata m order by simulation_id, m.id`,
        Schema.decodeUnknownEffect(Schema.Array(MetadataRow))
      )
      return Metadata.of({ insert, list })
    })
  )

  static readonly layerMemory = Layer.effect(
    Metadata,
    Effect.gen(function*() {
      const db = yield* MemoryDatabase
      const findings = table<MetadataRow>("chatlab.simulation_metadata")
      const insert = Effect.fnUntraced(function*(metadata: NewMetadata) {
        const id = String(yield* db.next("chatlab.simulation_metadata"))
        return yield* db.use((access) => {
          const free = withFreeKey(metadata, (name) => access.get(findings, name) !== undefined)
          const row: MetadataRow = { ...free, id }
          access.set(findings, nameOf(row), row)
          return row
        })
      })
      const list = Effect.map(
        db.use((access) => access.values(findings)),
        (rows) =>
          rows.toSorted((a, b) =>
            a.simulationId === b.simulationId ? Number(a.id) - Number(b.id) : a.simulationId < b.simulationId ? -1 : 1
          )
      )
      return Metadata.of({ insert, list })
    })
  )
}
