/**
 * The embedded database: Postgres compiled to WebAssembly, in this process, in memory or in a folder. It is served to
 * `@effect/sql-pg` on a socket of its own, so that everything else is the same as on a real server. For development, tests
 * and small single-process programs: it is one backend, and one process at a time may open a folder.
 */
import { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"

/** The folder is open in another process. */
export class FolderInUse extends Schema.TaggedError<FolderInUse>()("FolderInUse", {
  folder: Schema.String,
  pid: Schema.Int
}) {
  override get message() {
    return `the embedded database in ${this.folder} is open in process ${this.pid}; one process at a time may use it. ` +
      `Stop that one, or use a Postgres server`
  }
}

/** The embedded database did not start. */
export class EmbeddedFailed extends Schema.TaggedError<EmbeddedFailed>()("EmbeddedFailed", {
  reason: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message() {
    return `the embedded database did not start: ${this.reason}`
  }
}

/** Where the embedded database lives. */
export interface PgliteOptions {
  /** A folder, made when it is not there. In memory when absent. */
  readonly dataDir?: string | undefined
}

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // a process of another user is there, though it may not be signalled
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

const failed = (reason: string) => (cause: unknown) =>
  new EmbeddedFailed({ reason: `${reason}: ${String(cause)}`, cause })
const attempt = <A>(reason: string, run: () => Promise<A>) => Effect.tryPromise({ try: run, catch: failed(reason) })

/**
 * PGlite itself opens a folder twice without a word, and two writers destroy it. The lock is a file beside the data that
 * names its process; one left by a process that died is taken over.
 */
const lockFolder = (folder: string) => {
  const file = path.join(folder, "sluice.lock")
  const take: Effect.Effect<void, FolderInUse | EmbeddedFailed> = Effect.gen(function*() {
    yield* attempt(`cannot make ${folder}`, () => fs.mkdir(folder, { recursive: true }))
    const written = yield* Effect.option(
      attempt("lock", () => fs.writeFile(file, String(process.pid), { flag: "wx" }))
    )
    if (written._tag === "Some") return
    const pid = Number(yield* attempt(`cannot read ${file}`, () => fs.readFile(file, "utf8")))
    if (Number.isInteger(pid) && pid > 0 && isRunning(pid)) return yield* new FolderInUse({ folder, pid })
    yield* attempt(`cannot remove ${file}`, () => fs.rm(file, { force: true }))
    return yield* take
  })
  return Effect.acquireRelease(take, () => Effect.promise(() => fs.rm(file, { force: true })))
}

const start = Effect.fnUntraced(function*(options: PgliteOptions) {
  // loaded here, so that programs on a server do not need the packages
  const { PGlite } = yield* attempt("is @electric-sql/pglite installed?", () => import("@electric-sql/pglite"))
  const { PGLiteSocketServer } = yield* attempt(
    "is @electric-sql/pglite-socket installed?",
    () => import("@electric-sql/pglite-socket")
  )
  const folder = options.dataDir
  if (folder !== undefined) yield* lockFolder(folder)
  const database = yield* Effect.acquireRelease(
    attempt(
      "it cannot be opened",
      () => folder === undefined ? PGlite.create() : PGlite.create(path.join(folder, "data"))
    ),
    (db) => Effect.promise(() => db.close())
  )
  const sockets = yield* Effect.acquireRelease(
    attempt("no folder for its socket", () => fs.mkdtemp(path.join(os.tmpdir(), "sluice-"))),
    (directory) => Effect.promise(() => fs.rm(directory, { recursive: true, force: true }))
  )
  const socket = path.join(sockets, ".s.PGSQL.5432")
  yield* Effect.acquireRelease(
    attempt("its socket cannot be opened", async () => {
      const server = new PGLiteSocketServer({ db: database, path: socket })
      await server.start()
      return server
    }),
    (server) => Effect.promise(() => server.stop())
  )
  // one connection: waiting for a transaction then happens in the pool, where it can be interrupted
  return PgClient.layer({ path: socket, username: "postgres", database: "postgres", maxConnections: 1 })
})

/** The clients of an embedded database. Fails with {@link FolderInUse} when another process has the folder open. */
export const layer = (
  options: PgliteOptions = {}
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, FolderInUse | EmbeddedFailed | SqlError> =>
  Layer.unwrap(start(options))
