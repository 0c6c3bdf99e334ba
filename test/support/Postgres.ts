/**
 * Databases for tests, on the servers of `globalSetup`. Migrating an empty database takes three times as long as copying one
 * that has Sluice's tables, so those whose tests are about something else are copies.
 */
import * as Migrations from "effect-sluice/store/Migrations"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { client } from "./client.ts"
import { startCluster, type Version } from "./cluster.ts"

export { client } from "./client.ts"

/** The address of the run's server. */
export const serverUrl = (version: Version): string => inject(version === 18 ? "postgres18" : "postgres15")

/** One connection to a version's server. */
const admin = (version: Version) =>
  Effect.map(Layer.build(client(serverUrl(version), { maxConnections: 1 })), Context.get(SqlClient.SqlClient))

const addressOf = (version: Version, name: string): string => serverUrl(version).replace(/\/postgres$/, `/${name}`)

/** The address of a new, empty database, dropped when the scope closes. `options` are those of `create database`. */
export const freshDatabase = Effect.fnUntraced(function*(version: Version = 18, options = "") {
  const name = `test_${randomUUID().replaceAll("-", "")}`
  const run = (statement: string) => Effect.scoped(Effect.flatMap(admin(version), (sql) => sql.unsafe(statement)))
  yield* Effect.acquireRelease(
    run(`create database ${name} ${options}`),
    () => Effect.ignore(run(`drop database ${name} with (force)`))
  )
  return addressOf(version, name)
})

/** Runs statements, by a connection of their own. */
export const runAt = (url: string, ...statements: ReadonlyArray<string>) =>
  Effect.provide(
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
    ),
    Layer.fresh(client(url, { maxConnections: 1 })),
    { local: true }
  )

/** The database that is copied. */
const template = "sluice_tables"
/** The versions whose template is known to be there. */
const made = new Set<Version>()

/** Makes the template, once in a run: whoever comes first does it, and the other processes wait. */
const makeTemplate = Effect.fnUntraced(function*(version: Version) {
  if (made.has(version)) return
  const sql = yield* admin(version)
  yield* sql`select pg_advisory_lock(1)`
  // nobody may connect to it once it is done, as nobody may when it is copied
  const done = yield* sql`select from pg_database where datname = ${template} and not datallowconn`
  if (done.length === 0) {
    yield* sql.unsafe(`drop database if exists ${template} with (force)`)
    yield* sql.unsafe(`create database ${template}`)
    yield* Effect.orDie(
      Effect.provide(Migrations.run, Layer.fresh(client(addressOf(version, template))), { local: true })
    )
    yield* sql.unsafe(`alter database ${template} allow_connections false`)
  }
  made.add(version)
}, Effect.scoped)

/** The address of a new database with Sluice's tables, as if made now, dropped when the scope closes. */
export const migratedDatabase = Effect.fnUntraced(function*(version: Version = 18) {
  yield* makeTemplate(version)
  const url = yield* freshDatabase(version, `template ${template}`)
  // the one row that tells its age
  yield* runAt(url, "update sluice.subscription_log set witness = default, witnessed_at = default")
  return url
})

/** The clients of a new database with Sluice's tables. */
export const layer = (version: Version = 18, options: { readonly maxConnections?: number } = {}) =>
  Layer.unwrap(Effect.map(migratedDatabase(version), (url) => client(url, options)))

/** The address of a database as another role uses it; the role is made for the test, and may log in and nothing more. */
export const asRole = Effect.fnUntraced(function*(url: string, name: string) {
  const address = new URL(url)
  // roles are the server's, and other tests make theirs
  const role = `${name}_${address.pathname.slice(6, 14)}`
  yield* Effect.acquireRelease(
    runAt(url, `create role ${role} login`),
    () => Effect.ignore(runAt(url, `drop owned by ${role} cascade`, `drop role ${role}`))
  )
  address.username = role
  return { role, url: address.href }
})

/** The address of a server of the test's own. */
export const serverAlone = (version: Version) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => startCluster({ version })),
      (cluster) => Effect.promise(() => cluster.remove())
    ),
    (cluster) => cluster.url()
  )

/**
 * The clients of a server of the test's own: for what other databases of a server can be seen from, as the oldest
 * transaction under way can.
 */
export const layerAlone = (version: Version = 18) =>
  Layer.unwrap(
    Effect.map(serverAlone(version), (url) => client(url))
  )
