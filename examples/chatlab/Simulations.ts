/**
 * The simulations: one row for each, made when the first call of it is persisted.
 */
import { MemoryDatabase, table } from "effect-sluice/store/MemoryDatabase"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlResolver from "effect/sql/SqlResolver"
import type { TableError } from "./tables.ts"

/** The table `chatlab.simulation`. */
export class Simulations extends Context.Service<Simulations, {
  /**
   * Makes the simulation unless it is there, and locks its row until the transaction ends, so that nobody else numbers
   * its messages or names its metadata meanwhile. Those asked for at once are one statement.
   */
  readonly touch: (id: string) => Effect.Effect<void, TableError>
  readonly count: Effect.Effect<number, TableError>
}>()("chatlab/Simulations") {
  static readonly layerPg = Layer.effect(
    Simulations,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const touch = SqlResolver.request(SqlResolver.void({
        Request: Schema.String,
        // always in the same order, so that two workers cannot wait for each other
        execute: (ids) =>
          sql`insert into chatlab.simulation (id)
            select distinct id from unnest(${ids}::text[]) as asked (id) order by id
            on conflict (id) do update set updated_at = now()`
      }))
      const count = Effect.map(
        sql<{ n: number }>`select count(*)::int as n from chatlab.simulation`,
        (rows) => rows[0]!.n
      )
      return Simulations.of({ touch, count })
    })
  )

  static readonly layerMemory = Layer.effect(
    Simulations,
    Effect.gen(function*() {
      const db = yield* MemoryDatabase
      const simulations = table<{ readonly id: string }>("chatlab.simulation")
      return Simulations.of({
        touch: (id) => db.use((access) => access.set(simulations, id, { id })),
        count: db.use((access) => access.values(simulations).length)
      })
    })
  )
}
