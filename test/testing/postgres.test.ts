/**
 * A rehearsal on Postgres: a handler that has a connection of its own writes what no rollback takes back.
 */
import { expect, it } from "@effect/vitest"
import { DomainObject, HandlerPlugin, HandlerRegistry, Output } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import { exactlyOnce, sampleCall } from "effect-sluice/testing"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { readFileSync } from "node:fs"
import { client, freshDatabase } from "../support/Postgres.ts"

class Note extends Output.make("schemas.clinic.ward.note", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String })
}) {}

// docs/testing.md shows what is between this line and the next one like it
// ---
/** A client of the same database that the handlers' transaction knows nothing of. */
class OwnClient extends Context.Service<OwnClient, SqlClient.SqlClient>()("OwnClient") {}

/** Inserts a note: by the client of the drain's transaction, or by one of its own. */
const noteHandler = (client: Effect.Effect<SqlClient.SqlClient, never, SqlClient.SqlClient | OwnClient>) =>
  HandlerPlugin.layer(
    "clinic",
    Note,
    Effect.map(client, (sql) => ({
      persist: Effect.fnUntraced(function*({ output }: { readonly output: { readonly text: string } }) {
        const rows = yield* sql<{ id: number }>`insert into note (content) values (${output.text}) returning id`
        return rows.map(({ id }) => DomainObject.make("clinic.Note", id))
      })
    }))
  )

const rehearse = Effect.fn(function*(handler: ReturnType<typeof noteHandler>) {
  return yield* exactlyOnce({
    application: HandlerRegistry.layer().pipe(
      Layer.provide(handler),
      Layer.provideMerge(PgStore.layer),
      Layer.provideMerge(emptyDatabase)
    ),
    calls: [yield* sampleCall(Note, { text: "slept well" })],
    tables: Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select content from note order by content`)
  })
})
// ---

/** Two clients of a database made anew, with the table of the notes. */
const emptyDatabase = Layer.unwrap(Effect.map(freshDatabase(), (url) => {
  const own = Layer.effect(OwnClient, SqlClient.SqlClient).pipe(Layer.provide(Layer.fresh(client(url))))
  const table = Layer.effectDiscard(
    Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create table note (id serial primary key, content text not null)`)
  )
  return Layer.merge(own, table).pipe(Layer.provideMerge(client(url)))
}))

it.live("a handler that writes in the drain's transaction passes", () =>
  Effect.gen(function*() {
    expect(yield* rehearse(noteHandler(SqlClient.SqlClient))).toBe(6)
  }), 60_000)

it.live("a handler that writes by its own connection is caught", () =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(rehearse(noteHandler(OwnClient)))
    expect(error._tag).toBe("NotExactlyOnce")
    expect(error.message).toContain("before the commit (transaction 1), the tables are not those of a clean run.")
    // as the page says
    expect(readFileSync(new URL("../../docs/testing.md", import.meta.url), "utf8")).toContain(
      `\n\`\`\`text\n${error.message}\n\`\`\`\n`
    )
  }), 60_000)
