/**
 * `sluice migrate`: brings the tables up to date, or prints what it would do.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Settings from "../../Settings.ts"
import * as Migrations from "../../store/Migrations.ts"
import * as Database from "../Database.ts"
import { told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"

/** What `sluice migrate --json` prints. */
export const MigrationStatus = Schema.Struct({
  migrations: Schema.Array(Schema.Struct({ id: Schema.Int, name: Schema.String, applied: Schema.Boolean }))
})

/** What `sluice migrate --dry-run --json` prints. */
export const MigrationPlan = Schema.Struct({
  missing: Schema.Array(Schema.Struct({ id: Schema.Int, name: Schema.String })),
  /** Run each on its own, in this order. After them no migration is missing. */
  statements: Schema.Array(Schema.String)
})

/**
 * The script for psql. Each statement commits on its own. It waits for a lock for a short time only, because other sessions
 * queue behind it. Concurrent statements block no session, and have no limit.
 */
const script = (statements: ReadonlyArray<string>): string =>
  statements.length === 0
    ? "-- nothing is missing"
    : [
      "-- Each statement is committed by itself: not for psql --single-transaction. When one stops at a lock, which is so that\n" +
      "-- recording does not wait for it, run all of it again.",
      "\\set ON_ERROR_STOP on",
      "set search_path = pg_catalog, pg_temp;",
      "set lock_timeout = '250ms';",
      ...statements.map((statement) =>
        Migrations.isConcurrent(statement)
          ? `set lock_timeout = 0;\n${statement};\nset lock_timeout = '250ms';`
          : `${statement};`
      )
    ].join("\n\n")

const planned = Effect.fnUntraced(function*(missing: ReadonlyArray<Migrations.Migration>, json: boolean) {
  const { schema } = yield* Settings.Settings
  const statements = Migrations.plan(schema, missing)
  yield* json
    ? print.json(MigrationPlan, { missing: missing.map(({ id, name }) => ({ id, name })), statements })
    : print.text(script(statements))
})

/** Prints which migrations are applied. `before` were missing before this run; `missing` still are. */
const listed = Effect.fnUntraced(function*(
  { before, json, missing }: {
    readonly before: ReadonlyArray<Migrations.Migration>
    readonly missing: ReadonlyArray<Migrations.Migration>
    readonly json: boolean
  }
) {
  const { schema } = yield* Settings.Settings
  const ids = (list: ReadonlyArray<Migrations.Migration>) => new Set(list.map(({ id }) => id))
  const [was, is] = [ids(before), ids(missing)]
  const migrations = Migrations.list(schema).map(({ id, name }) => ({ id, name, applied: !is.has(id) }))
  if (json) return yield* print.json(MigrationStatus, { migrations })
  for (const { applied, id, name } of migrations) {
    const word = !applied ? "missing" : was.has(id) ? "applied now" : "applied before"
    yield* print.line(`${String(id).padStart(4, "0")} ${name}: ${word}`)
  }
})

/** The command. */
export const migrate = Command.make(
  "migrate",
  {
    ...options.common,
    embedded: options.embedded,
    status: options.on("status", "only report which migrations are applied"),
    dryRun: options.on("dry-run", "print the SQL of the missing migrations")
  },
  ({ dryRun, embedded, status, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const looks = dryRun || status
      const tell = (missing: ReadonlyArray<Migrations.Migration>) =>
        dryRun ? planned(missing, json) : listed({ before: missing, missing, json })
      if (looks && (yield* Database.isAbsent(url))) {
        // without a database every migration is missing; `--status` and `--dry-run` do not create one
        return yield* tell(Migrations.list((yield* Settings.Settings).schema))
      }
      yield* Effect.gen(function*() {
        yield* Migrations.check
        const before = yield* Migrations.missing
        if (looks) return yield* tell(before)
        yield* Migrations.run
        yield* listed({ before, missing: yield* Migrations.missing, json })
      }).pipe(Effect.provide(Database.layer(url, { embedded: embedded && !looks })))
    }).pipe(told)
).pipe(
  Command.withDescription("Bring Sluice's tables up to date"),
  Command.withExamples([
    { command: "sluice migrate", description: "Apply the missing migrations" },
    { command: "sluice migrate --dry-run > review.sql", description: "See the SQL first; psql -f can run it" }
  ])
)
