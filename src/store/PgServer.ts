/**
 * What the doctor examines of a Postgres server and of the schema with Sluice's tables. Reads only catalogs and the heads of
 * indexes, so it is cheap on a busy server.
 */
import type { PgConnection } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { ChunkStoreError } from "../ChunkStore.ts"
import * as Settings from "../Settings.ts"
import type { DatabaseUnfit } from "./DatabaseUnfit.ts"
import * as Migrations from "./Migrations.ts"
import * as missing from "./pg/absent.ts"
import * as catalog from "./pg/catalog.ts"
import { limitOf } from "./pg/client.ts"
import { within } from "./pg/connection.ts"
import { asStoreError } from "./pg/errors.ts"
import { type Drainer, drainersThatLack } from "./pg/lacking.ts"
import { isPooled, isPooledBetween } from "./pg/pooler.ts"
import { encodingProblem, type Facts, factsOf, pathProblem } from "./pg/preflight.ts"
import * as sequences from "./pg/sequences.ts"
import { open, reserve, type Session } from "./pg/session.ts"
import { list, madeBy } from "./pg/statements.ts"
import * as strangers from "./pg/strangers.ts"
import { shown, tables } from "./pg/tables.ts"
import { type Unaccounted, unaccounted } from "./pg/unaccounted.ts"
import * as rights from "./Rights.ts"
import { named, Verb } from "./verbs.ts"

export type { HoldingSession, PreparedTransaction, Replica, Vacuum } from "./pg/catalog.ts"
export type { Unaccounted } from "./pg/unaccounted.ts"

/** A defect, and what to do about it. */
export interface Problem {
  readonly found: string
  readonly advice: string
}

/** What the server reports about itself and about Sluice's schema. */
export interface ServerFacts extends Facts {
  readonly encodingProblem: Problem | undefined
  /** When the search path is wrong, nothing else is queried: foreign functions could answer. */
  readonly pathProblem: Problem | undefined
  readonly around: {
    /** The server's time, in milliseconds. */
    readonly clockMillis: number
    /** Whether this role sees other roles' sessions. */
    readonly seesAll: boolean
    /** Whether Sluice's tables exist. */
    readonly tables: boolean
    /** Tables, columns, primary keys or sequences that applied migrations have made, and that are missing. */
    readonly absent: Problem | undefined
    /** Foreign objects in place of Sluice's tables, or acting on them. */
    readonly strangers: Problem | undefined
  } | undefined
}

/** A role that drains but lacks rights, and the statements that grant them. */
export interface Lacking extends Drainer {
  readonly grants: ReadonlyArray<string>
}

/** The state of the indexes that the migrations create. */
export interface Indexes {
  /** How many exist. */
  readonly count: number
  /** Each with the statement that recreates it. */
  readonly missing: ReadonlyArray<{ readonly name: string; readonly statement: string }>
  readonly invalid: ReadonlyArray<string>
}

/** The server. Each query fails independently, with the server's error. */
export class PgServer extends Context.Service<PgServer, {
  /** The schema of the tables, quoted for SQL. */
  readonly schema: string
  readonly facts: Effect.Effect<ServerFacts, ChunkStoreError>
  /** Whether a pooler in transaction mode is in between; `false` if that cannot be determined. Fails for statement mode. */
  readonly isPooled: Effect.Effect<boolean, DatabaseUnfit>
  /** How many migrations are not applied yet. */
  readonly missingMigrations: Effect.Effect<number, ChunkStoreError>
  /** How many applied migrations are of a newer version than this program. */
  readonly newerMigrations: Effect.Effect<number, ChunkStoreError>
  /** A description of the sequences that are behind the tables; undefined when none is. */
  readonly sequencesBehind: Effect.Effect<string | undefined, ChunkStoreError>
  /** Calls none of whose chunks is queued, persisted or dead, among the oldest thousand and the newest thousand. */
  readonly unaccounted: Effect.Effect<Unaccounted | undefined, ChunkStoreError>
  readonly rolesThatLack: Effect.Effect<ReadonlyArray<Lacking>, ChunkStoreError>
  readonly indexes: Effect.Effect<Indexes, ChunkStoreError>
  readonly vacuum: Effect.Effect<catalog.Vacuum | undefined, ChunkStoreError>
  /** The oldest session that keeps vacuum from cleaning. Without `seesAll` it omits those of other roles. */
  readonly oldestSession: Effect.Effect<catalog.HoldingSession | undefined, ChunkStoreError>
  readonly oldestPrepared: Effect.Effect<catalog.PreparedTransaction | undefined, ChunkStoreError>
  readonly oldestReplica: Effect.Effect<catalog.Replica | undefined, ChunkStoreError>
}>()("effect-sluice/PgServer") {}

/** The service for the server that a client connects to. */
export const layer: Layer.Layer<PgServer, never, SqlClient.SqlClient | Settings.Settings> = Layer.effect(
  PgServer,
  Effect.suspend(() => make)
)

/** The indexes that must exist, by name, each with its statement, taken from the migrations. */
const expectedIndexes = (schema: string): ReadonlyMap<string, string> => {
  const all = list(schema)
  const keys = all.flatMap(({ statements }) => statements).flatMap(
    (statement): ReadonlyArray<readonly [string, string]> => {
      const table = /^create table if not exists \S+\.(\w+)/.exec(statement)?.[1]
      return table === undefined || !/\bprimary key\b/.test(statement)
        ? []
        : [[`${table}_pkey`, `restore the primary key of ${shown(schema)}.${table}`]]
    }
  )
  const made = [...madeBy(all).indexes].map(([index, statement]) =>
    [
      index,
      statement.replaceAll(/\s+/g, " ").replace(/^(create (?:unique )?index) (?!concurrently)/, "$1 concurrently ")
    ] as const
  )
  return new Map([...keys, ...made])
}

const indexesOf = (
  schema: string,
  found: ReadonlyArray<{ readonly name: string; readonly valid: boolean }>
): Indexes => {
  const there = new Set(found.map(({ name }) => name))
  return {
    count: there.size,
    missing: [...expectedIndexes(schema)].flatMap(([name, statement]) => there.has(name) ? [] : [{ name, statement }]),
    invalid: found.filter(({ valid }) => !valid).map(({ name }) => name)
  }
}

const factsFrom = Effect.fnUntraced(function*(session: Session, { schema, trusted }: Settings.Values) {
  const facts = yield* factsOf(session)
  const base = { ...facts, encodingProblem: encodingProblem(facts), pathProblem: pathProblem(facts) }
  if (base.pathProblem !== undefined) return { ...base, around: undefined }
  const [vitals] = yield* catalog.vitals(session, schema)
  const absent = yield* missing.find(session, schema, list(schema))
  const found = strangers.unmeant(yield* strangers.find(session, schema, madeBy(list(schema))), trusted)
  return {
    ...base,
    around: {
      clockMillis: vitals?.clockMillis ?? 0,
      seesAll: vitals?.seesAll === true,
      tables: vitals?.tables === true,
      absent: absent.length === 0 ? undefined : missing.describe(schema, absent),
      strangers: found.length === 0 ? undefined : strangers.describe(found)
    }
  }
})

const make = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const settings = yield* Settings.Settings
  const { schema } = settings
  const known = new Set(list(schema).map(({ id }) => id))
  const t = tables(sql, schema, settings.statementTimeout)
  const limit = limitOf(sql, settings.statementTimeout)
  const inSession = <A, E>(work: (session: Session) => Effect.Effect<A, E>) =>
    Effect.flatMap(Verb, (verb) => within(limit, verb)(Effect.scoped(Effect.flatMap(reserve(sql, limit), work)))).pipe(
      asStoreError
    )
  const first = <A>(rows: Effect.Effect<ReadonlyArray<A>, SqlError>) =>
    t.client.statement(Effect.map(rows, ([row]): A | undefined => row))
  return PgServer.of(named("server", {
    schema: shown(schema),
    facts: inSession((session) => factsFrom(session, settings)),
    isPooled: isPooled(sql),
    missingMigrations: inSession(
      (session) => Effect.map(Migrations.missingOf(session, schema, list(schema)), (missing) => missing.length)
    ),
    newerMigrations: inSession((session) =>
      Effect.map(
        session.run<{ id: number }>(`select migration_id as id from "${schema}".migration`),
        (rows) => rows.filter((row) => !known.has(row.id)).length
      )
    ),
    sequencesBehind: inSession((session) =>
      Effect.map(
        sequences.behind(session, schema),
        (behind) => behind.length === 0 ? undefined : sequences.describe(behind)
      )
    ),
    unaccounted: first(unaccounted(t)),
    rolesThatLack: t.client.statement(
      Effect.map(drainersThatLack(sql, schema), (found) =>
        found.map(({ objects, role }) => ({
          role,
          objects,
          grants: objects.map((object) => rights.workerGrant(schema, role, object))
        })))
    ),
    indexes: t.client.statement(
      Effect.map(catalog.indexes(t, schema), (found) => indexesOf(schema, found))
    ),
    vacuum: first(catalog.vacuum(t, schema)),
    oldestSession: first(catalog.snapshots(t)),
    oldestPrepared: first(catalog.prepared(t)),
    oldestReplica: first(catalog.replicas(t))
  }))
})

/**
 * Determines the role a client connects as, and whether a pooler in transaction mode is in between. Opens two connections of
 * its own. Calls `onRole` as soon as the first one has answered, so the role is known even if the second one fails. Fails
 * with `DatabaseUnfit` if a pooler is in statement mode.
 */
export const lookBetween = (
  config: PgConnection.Config,
  onRole: (role: string) => Effect.Effect<void>
): Effect.Effect<boolean, SqlError | DatabaseUnfit, Scope> =>
  Effect.gen(function*() {
    const options = { name: "sluice", limit: Duration.seconds(10) }
    const first = yield* open(config, options)
    const [me] = yield* first.run<{ role: string }>("select current_user::pg_catalog.text as role")
    if (me !== undefined) yield* onRole(me.role)
    return yield* isPooledBetween(first, yield* open(config, options))
  })
