/**
 * The embedded database: kept in a folder, open once at a time.
 */
import { it } from "@effect/vitest"
import * as Pglite from "effect-sluice/store/Pglite"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { describe, expect } from "vitest"

const inFolder = <A, E>(test: (folder: string) => Effect.Effect<A, E>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sluice-pglite-test-"))),
    test,
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  )
const within = <A, E>(dataDir: string, test: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.provide(test, Layer.fresh(Pglite.layer({ dataDir })), { local: true })
const query = (text: string) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(text))

describe("the embedded database", () => {
  it.live("in a folder it is there again", () =>
    inFolder((folder) =>
      Effect.gen(function*() {
        yield* within(
          folder,
          Effect.andThen(query("create table note (text text)"), query("insert into note values ('kept')"))
        )
        expect(yield* within(folder, query("select text from note"))).toEqual([{ text: "kept" }])
      })
    ), 60_000)

  it.live(
    "a second opener is refused, in this process and in another, and told which process has it",
    () =>
      inFolder((folder) =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          yield* Scope.provide(Layer.build(Layer.fresh(Pglite.layer({ dataDir: folder }))), scope)
          const error = yield* Effect.flip(within(folder, query("select 1")))
          expect(error).toMatchObject({ _tag: "FolderInUse", folder, pid: process.pid })
          const program = `
          import * as Pglite from "effect-sluice/store/Pglite"
          import { Effect, Layer } from "effect"
          const exit = await Effect.runPromiseExit(Effect.scoped(Layer.build(Pglite.layer({ dataDir: process.argv[1] }))))
          console.log(String(exit))`
          const other = spawnSync(
            process.execPath,
            ["--conditions=sluice-source", "--input-type=module", "--eval", program, folder],
            { cwd: path.resolve(import.meta.dirname, "../.."), encoding: "utf8" }
          )
          expect(other.stdout).toContain("FolderInUse")
          yield* Scope.close(scope, Exit.void)
          expect(yield* within(folder, query("select 1 as one"))).toEqual([{ one: 1 }])
        })
      ),
    60_000
  )

  it.live("the lock of a process that died is taken over", () =>
    inFolder((folder) =>
      Effect.gen(function*() {
        const gone = spawnSync(process.execPath, ["--eval", "0"]).pid
        fs.writeFileSync(path.join(folder, "sluice.lock"), String(gone))
        expect(yield* within(folder, query("select 1 as one"))).toEqual([{ one: 1 }])
        expect(fs.existsSync(path.join(folder, "sluice.lock"))).toBe(false)
      })
    ), 60_000)

  it.live("a folder that cannot be made is said so", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(within("/dev/null/data", query("select 1")))
      expect(error).toMatchObject({ _tag: "EmbeddedFailed" })
      expect(error.message).toContain("/dev/null/data")
    }))
})
