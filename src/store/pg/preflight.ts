/**
 * The checks before anything is written: whether this database can guarantee what Sluice promises, and whether its tables
 * are Sluice's own.
 */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type * as Settings from "../../Settings.ts"
import { DatabaseUnfit } from "../DatabaseUnfit.ts"
import { explain } from "../Rights.ts"
import * as absent from "./absent.ts"
import { limitOf } from "./client.ts"
import { codeOf, wordsOf } from "./errors.ts"
import { isPooled } from "./pooler.ts"
import * as sequences from "./sequences.ts"
import { clientOf, reserve, type Session } from "./session.ts"
import { list, madeBy } from "./statements.ts"
import * as strangers from "./strangers.ts"

/** What a server reports about itself and this session. */
export interface Facts {
  readonly version: number
  readonly encoding: string
  readonly standby: boolean
  /** Whether this session's transactions are read-only: on a standby, or because `default_transaction_read_only` is on. */
  readonly readOnly: boolean
  /** Whether the server has only this session, like the embedded database. */
  readonly alone: boolean
  /** The role of this session. */
  readonly role: string
  /** The schemas in which names are looked up, in this order. */
  readonly path: ReadonlyArray<string>
}

/** Reads the facts without operators: the search path determines which operators apply, and is not checked yet. */
export const factsOf = (session: Session): Effect.Effect<Facts, SqlError> =>
  Effect.flatMap(
    session.run<
      & Pick<Facts, "encoding" | "standby" | "role" | "path">
      & { readonly version: number; readonly read_only: string; readonly backend: string | null }
    >(
      `select pg_catalog.current_setting('server_version_num')::int as version,
        pg_catalog.current_setting('server_encoding') as encoding,
        pg_catalog.current_setting('transaction_read_only') as read_only,
        pg_catalog.pg_is_in_recovery() as standby, current_user::pg_catalog.text as role,
        pg_catalog.current_schemas(true)::pg_catalog.text[] as path,
        (select backend_type from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())) as backend`
    ),
    ([row]) => {
      if (row === undefined) return Effect.die("a server that answers nothing")
      const { backend, read_only, version, ...facts } = row
      return Effect.succeed({
        ...facts,
        version: Math.floor(version / 10_000),
        readOnly: read_only === "on",
        alone: backend === "standalone backend"
      })
    }
  )

/** The problem with a server's encoding, if any. */
export const encodingProblem = ({ encoding }: Facts) =>
  encoding === "UTF8" ? undefined : {
    found:
      `the database's encoding is ${encoding}, not UTF8: some answers could not be stored, and lengths are counted in bytes`,
    advice: `make one with: create database … encoding 'UTF8' template template0; and move the data by pg_dump`
  }

/**
 * The problem with the search path, if any. Sluice's statements name the schema of each function, and each operator is used
 * with the exact types of one of Postgres' own. Of two operators with the same types the server takes the one from the first
 * schema: `pg_catalog`, unless the path names it after another. Temporary schemas are never searched for operators.
 */
export const pathProblem = ({ path }: Facts) => {
  const before = path.slice(0, path.indexOf("pg_catalog")).filter((schema) => !schema.startsWith("pg_temp"))
  return before.length === 0 ? undefined : {
    found: `the search_path names pg_catalog behind ${
      before.join(", ")
    }: operators made there would be taken for Postgres' own`,
    advice: "leave pg_catalog out of the search_path of this role, database or client: it is searched first then"
  }
}

const unfit = (problem: DatabaseUnfit["problem"], reason: string) => Effect.fail(new DatabaseUnfit({ problem, reason }))

/** Refuses a server that cannot hold the tables, and tables that Sluice did not create. */
export const checkTables = Effect.fnUntraced(function*(
  session: Session,
  facts: Facts,
  { schema, trusted }: Pick<Settings.Values, "schema" | "trusted">
) {
  if (facts.version < 15) {
    return yield* unfit("version", `this is Postgres ${facts.version}: Sluice needs Postgres 15 or later`)
  }
  const problem = encodingProblem(facts)
  if (problem !== undefined) return yield* unfit("encoding", `${problem.found}; ${problem.advice}`)
  const path = pathProblem(facts)
  if (path !== undefined) return yield* unfit("search-path", `${path.found}; ${path.advice}`)
  const found = yield* strangers.find(session, schema, madeBy(list(schema)))
  const unmeant = strangers.unmeant(found, trusted)
  if (unmeant.length > 0) {
    const { advice, found } = strangers.describe(unmeant)
    return yield* unfit("strangers", `in schema ${schema}, as role ${facts.role}: ${found}. ${advice}`)
  }
})

/** Refuses tables of which a part is missing. */
export const checkComplete = Effect.fnUntraced(function*(session: Session, schema: string) {
  const missing = yield* absent.find(session, schema, list(schema))
  if (missing.length === 0) return
  const { advice, found } = absent.describe(schema, missing)
  return yield* unfit("incomplete", `in schema ${schema}: ${found}; ${advice}`)
})

/** For a missing right, adds which role lacks it and what to grant. */
export const namingRights = (schema: string, { role }: Facts) => <A, E, R>(effect: Effect.Effect<A, E | SqlError, R>) =>
  Effect.mapError(effect, (error) => {
    if (!isSqlError(error) || codeOf(error) !== "42501") return error
    const reason = wordsOf(error)
    const why = explain(reason, { schema, role, purpose: "worker" }) ?? `role ${role} lacks it`
    return new DatabaseUnfit({ problem: "rights", reason: `${reason}: ${why}` })
  })

/** What a store learns at its start. */
export interface Ground {
  /** Absent if the database was not examined. */
  readonly role?: string
  /** Whether a pooler in transaction mode is in between: no notification arrives through it. */
  readonly pooled: boolean
}

/** Checks the tables only, for commands that read or repair but record nothing. The store then does not listen for hints. */
export const glance = Effect.fnUntraced(function*(sql: SqlClient, settings: Settings.Values) {
  const session = yield* reserve(sql, limitOf(sql, settings.statementTimeout))
  const facts = yield* factsOf(session)
  yield* checkTables(session, facts, settings)
  yield* checkComplete(session, settings.schema)
  const ground: Ground = { role: facts.role, pooled: true }
  return ground
}, Effect.scoped)

/**
 * The checks before a store starts. Fails with {@link DatabaseUnfit} where it must not. A read-only server is not a reason
 * to fail: its address may lead to the primary again at any time.
 */
export const preflight = Effect.fnUntraced(function*(sql: SqlClient, settings: Settings.Values) {
  const facts = yield* Effect.scoped(Effect.gen(function*() {
    const session = yield* reserve(sql, limitOf(sql, settings.statementTimeout))
    const facts = yield* factsOf(session)
    yield* checkTables(session, facts, settings)
    yield* checkComplete(session, settings.schema)
    const behind = yield* sequences.behind(session, settings.schema)
    if (behind.length > 0) {
      return yield* unfit(
        "sequence",
        `in schema ${settings.schema} ${sequences.describe(behind)}: what is recorded would fail. ` +
          "It was copied without its sequences, as logical replication does: `sluice migrate` corrects it"
      )
    }
    return facts
  }))
  if (facts.standby) {
    yield* Effect.logWarning(
      "the server is a standby, which is read-only: nothing can be recorded or drained until its address leads to the primary"
    )
  }
  const client = clientOf(sql)
  const pooled = !facts.alone && (yield* isPooled(sql))
  if (pooled && client !== undefined && client.config.prepare !== false) {
    return yield* unfit(
      "pooler",
      "a pooler in transaction mode is in between, where nothing that is prepared lasts: give the client prepare: false"
    )
  }
  const ground: Ground = { role: facts.role, pooled }
  return ground
})
