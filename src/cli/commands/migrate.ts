/**
 * `sluice migrate`: brings the tables up to date, or says what it would do.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Settings from "../../Settings.ts"
import * as Migrations from "../../store/Migrations.ts"
import * as Database from "../Database.ts"
import * as print from "../print.ts"

/** What `sluice migrate --json` prints. */
export const MigrationStatus = Schema.Struct({
  migrations: Schema.Array(Schema.Struct({ id: Schema.Int, name: Schema.String, applied: Schema.Boolean }))
})

/** What `sluice migrate --dry-run --json` prints. */
export const MigrationPlan = Schema.Struct({
  missing: Schema.Array(Schema.Struct({ id: Schema.Int, name: Schema.String, statements: Schema.Array(Schema.String) }))
})

const appliedIds = Effect.fnUntraced(function*(schema: string) {
  const sql = yield* SqlClient.SqlClient
  const [found] = yield* sql<{ there: boolean }>`select to_regclass(${`${schema}.migration`}) is not null as there`
  if (found?.there !== true) return new Set<number>()
  const rows = yield* sql<{ migration_id: number }>`select migration_id from ${sql(`${schema}.migration`)}`
  return new Set(rows.map((row) => row.migration_id))
})

/** The command. */
export const migrate = Command.make(
  "migrate",
  {
    ...Database.common,
    status: Flag.Boolean("status").pipe(Flag.withDescription("only say what is applied"), Flag.withDefault(false)),
    dryRun: Flag.Boolean("dry-run").pipe(Flag.withDescription("print the SQL that is missing"), Flag.withDefault(false))
  },
  ({ dryRun, json, status, url }) =>
    Effect.gen(function*() {
      const { schema } = yield* Settings.load
      const all = yield* Migrations.list(schema)
      const before = yield* appliedIds(schema)
      const missing = all.filter(({ id }) => !before.has(id))
      if (dryRun) {
        if (json) return yield* print.json(MigrationPlan, { missing })
        for (const { id, name, statements } of missing) {
          yield* Console.log(`-- ${id} ${name}\n${statements.map((text) => `${text};`).join("\n\n")}`)
        }
        return
      }
      if (!status) yield* Migrations.run
      const after = status ? before : yield* appliedIds(schema)
      const migrations = all.map(({ id, name }) => ({ id, name, applied: after.has(id) }))
      if (json) return yield* print.json(MigrationStatus, { migrations })
      for (const { applied, id, name } of migrations) {
        const word = !applied ? "missing" : before.has(id) ? "applied before" : "applied now"
        yield* Console.log(`${String(id).padStart(4, "0")} ${name}: ${word}`)
      }
    }).pipe(Effect.provide(Database.layer(url)), Database.told)
).pipe(
  Command.withDescription("Bring Sluice's tables up to date"),
  Command.withExamples([
    { command: "sluice migrate", description: "Apply what is missing" },
    { command: "sluice migrate --dry-run > review.sql", description: "See the SQL first" }
  ])
)
