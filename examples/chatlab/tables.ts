/**
 * The chat laboratory's tables: made from `schema.sql`, and what their repositories fail with.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import { readFile } from "node:fs/promises"

/** What a repository over Postgres can fail with. Sluice tells by it whether the database or the handler is to blame. */
export type TableError = SqlError.SqlError | SqlError.ResultLengthMismatch | Schema.SchemaError

const statements = Effect.promise(() => readFile(new URL("./schema.sql", import.meta.url), "utf8")).pipe(
  Effect.map((text) => text.replaceAll(/^--.*$/gm, "").split(";").map((one) => one.trim()).filter((one) => one !== ""))
)

/** Makes the tables that are not there yet. */
export const create = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql.withTransaction(Effect.gen(function*() {
    // "create … if not exists" still collides when two programs start at once, so they take turns
    yield* sql`select pg_advisory_xact_lock(hashtext('chatlab'))::text`
    for (const statement of yield* statements) yield* sql.unsafe(statement)
  }))
})

/** A layer that makes the tables before anything that is provided with it. */
export const layer: Layer.Layer<never, SqlError.SqlError, SqlClient.SqlClient> = Layer.effectDiscard(create)
