/**
 * Makes the chat laboratory's tables from `schema.sql`, and names the errors of their repositories.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import { readFile } from "node:fs/promises"

/** The errors of a repository over Postgres. Sluice decides by them whether the database or the handler is at fault. */
export type TableError = SqlError.SqlError | SqlError.ResultLengthMismatch | Schema.SchemaError

const statements = Effect.promise(() => readFile(new URL("./schema.sql", import.meta.url), "utf8")).pipe(
  Effect.map((text) => text.replaceAll(/^--.*$/gm, "").split(";").map((one) => one.trim()).filter((one) => one !== ""))
)

/** Makes the tables that do not exist yet. */
export const create = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql.withTransaction(Effect.gen(function*() {
    // "create … if not exists" fails if two programs run it concurrently: a lock puts them in sequence
    yield* sql`select pg_advisory_xact_lock(hashtext('chatlab'))::text`
    for (const statement of yield* statements) yield* sql.unsafe(statement)
  }))
})

/** Makes the tables before any layer that it is provided to. */
export const layer: Layer.Layer<never, SqlError.SqlError, SqlClient.SqlClient> = Layer.effectDiscard(create)
