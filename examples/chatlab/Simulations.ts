/**
 * The simulations: one row for each, made when its first call is persisted.
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
   * Makes the simulation if it does not exist, and locks its row until the transaction ends: no other transaction numbers
   * its messages or names its metadata meanwhile. Concurrent requests become one statement.
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
        // locks in a fixed order: two workers cannot deadlock
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
