/**
 * The embedded database: Postgres compiled to WebAssembly, in this process, in memory or in a folder. `@effect/sql-pg`
 * connects to it through a private socket, so everything else works like on a real server. For development, tests and small
 * single-process programs: it has one backend, and only one process at a time may open a folder.
 */
import { PgClient } from "@effect/sql-pg"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as path from "node:path"
import { describe } from "../internal/describe.ts"
import { EmbeddedFailed, type FolderInUse } from "./pglite/errors.ts"
import { lockFolder } from "./pglite/folderLock.ts"
import { makePrivate } from "./pglite/privateFolder.ts"
import * as socketFolder from "./pglite/socketFolder.ts"

export { EmbeddedFailed, FolderInUse } from "./pglite/errors.ts"

/** Where the embedded database lives. */
export interface Options {
  /**
   * A folder, created if absent. It and the data in it are closed to other users (0700). An existing folder that contains
   * other files keeps its permissions, and only the data in it is closed. Without this option the database is in memory.
   */
  readonly dataDir?: string | undefined
}

/** Says what to do about a missing file of the package: a bundler copies the package's code, but not its files. */
const advised = (message: string): string =>
  /\b(pglite|initdb)\.(data|wasm)\b/.test(message)
    ? `${message}. Files of @electric-sql/pglite are missing: leave the package out of the bundle, as an external one, and ` +
      `install it where the program runs`
    : message

const attempt = <A>(reason: string, run: () => Promise<A>) =>
  Effect.tryPromise({
    try: run,
    catch: (cause) => new EmbeddedFailed({ reason: `${reason}: ${advised(describe(cause))}`, cause })
  })

const start = Effect.fnUntraced(function*(options: Options) {
  // loaded here, because programs on a server do not need these packages
  const { PGlite } = yield* attempt("is @electric-sql/pglite installed?", () => import("@electric-sql/pglite"))
  const { PGLiteSocketServer } = yield* attempt(
    "is @electric-sql/pglite-socket installed?",
    () => import("@electric-sql/pglite-socket")
  )
  const folder = options.dataDir
  if (folder !== undefined) {
    yield* makePrivate(folder)
    yield* lockFolder(folder)
  }
  const database = yield* Effect.acquireRelease(
    attempt(
      "it cannot be opened",
      () => folder === undefined ? PGlite.create() : PGlite.create(path.join(folder, "data"))
    ),
    (db) => Effect.promise(() => db.close())
  )
  const sockets = yield* Effect.acquireRelease(
    attempt("no folder for its socket", socketFolder.make),
    (directory) => Effect.promise(() => socketFolder.remove(directory))
  )
  const now = yield* Clock.currentTimeMillis
  yield* Effect.forkScoped(Effect.promise(() => socketFolder.sweep(now)))
  const socket = socketFolder.socketIn(sockets)
  yield* Effect.acquireRelease(
    attempt("its socket cannot be opened", async () => {
      const server = new PGLiteSocketServer({ db: database, path: socket })
      await server.start()
      return server
    }),
    (server) => Effect.promise(() => server.stop())
  )
  // one connection: a transaction then waits in the pool, where it can be interrupted
  return PgClient.layer({ path: socket, username: "postgres", database: "postgres", maxConnections: 1 })
})

/**
 * The clients of an embedded database. Fails with {@link FolderInUse} when another process has the folder open, and with
 * {@link EmbeddedFailed} when another user owns it.
 */
export const layer = (
  options: Options = {}
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, FolderInUse | EmbeddedFailed | SqlError> =>
  Layer.unwrap(start(options))
