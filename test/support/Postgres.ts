/**
 * Databases for tests, on the servers of `globalSetup`.
 */
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

/** The address of a new, empty database, dropped when the scope closes. `options` are those of `create database`. */
export const freshDatabase = Effect.fnUntraced(function*(version: Version = 18, options = "") {
  const server = serverUrl(version)
  const admin = Effect.map(Layer.build(client(server, { maxConnections: 1 })), Context.get(SqlClient.SqlClient))
  const name = `test_${randomUUID().replaceAll("-", "")}`
  yield* Effect.acquireRelease(
    Effect.scoped(Effect.flatMap(admin, (sql) => sql.unsafe(`create database ${name} ${options}`))),
    () => Effect.ignore(Effect.scoped(Effect.flatMap(admin, (sql) => sql.unsafe(`drop database ${name} with (force)`))))
  )
  return server.replace(/\/postgres$/, `/${name}`)
})

/** The clients of a new, empty database. */
export const layer = (version: Version = 18, options: { readonly maxConnections?: number } = {}) =>
  Layer.unwrap(Effect.map(freshDatabase(version), (url) => client(url, options)))

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
