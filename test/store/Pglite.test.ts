/**
 * The embedded database: kept in a folder, open once at a time.
 */
import { it } from "@effect/vitest"
import * as Pglite from "effect-sluice/store/Pglite"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { describe, expect } from "vitest"
import { lockFolder } from "../../src/store/pglite/folderLock.ts"
import { start, startScript } from "../support/programs.ts"

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
    ))

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
      )
  )

  const program = (file: string, ...args: ReadonlyArray<string>) =>
    startScript(path.join(import.meta.dirname, file), ...args)

  const lockOf = (folder: string) => path.join(folder, "sluice.lock")
  const goneProcess = () => spawnSync(process.execPath, ["--eval", "0"]).pid
  /** A lock as it stands after its process was killed. */
  const leave = (folder: string, pid: number, started: string) => {
    fs.mkdirSync(lockOf(folder))
    fs.writeFileSync(path.join(lockOf(folder), `${pid}.${started}.left`), "")
  }
  const plainFile = (pid: number) => (folder: string) => fs.writeFileSync(lockOf(folder), String(pid))

  const stale: ReadonlyArray<readonly [name: string, leave: (folder: string) => void, onlyWhere?: string]> = [
    ["of a process that died", (folder) => leave(folder, goneProcess(), "1-boot")],
    ["of a process that died, of when it started nothing is known", (folder) => leave(folder, goneProcess(), "")],
    // the first process of a container has the same number after its restart
    ["that names this process, which has not taken it", (folder) => leave(folder, process.pid, "")],
    ["of a process that had the number of this one", (folder) => leave(folder, process.pid, "1-boot")],
    ["of a process whose number another has now", (folder) => leave(folder, process.ppid, "1-boot"), "/proc/self/stat"],
    ["that is a file with a number, as it was once", (folder) => plainFile(goneProcess())(folder)],
    ["that is a file with the number of this process", plainFile(process.pid)],
    ["that is an empty file", (folder) => fs.writeFileSync(lockOf(folder), "")],
    ["that is an empty directory", (folder) => fs.mkdirSync(lockOf(folder))]
  ]
  for (const [name, left, onlyWhere] of stale) {
    it.live.skipIf(onlyWhere !== undefined && !fs.existsSync(onlyWhere))(
      `a lock ${name} is taken over`,
      () =>
        inFolder((folder) =>
          Effect.scoped(Effect.gen(function*() {
            left(folder)
            yield* lockFolder(folder)
            expect(fs.readdirSync(lockOf(folder))).toHaveLength(1)
            // and holds
            expect(yield* Effect.flip(Effect.scoped(lockFolder(folder)))).toMatchObject({ _tag: "FolderInUse" })
          })).pipe(Effect.tap(Effect.sync(() => expect(fs.readdirSync(folder)).toEqual([]))))
        )
    )
  }

  it.live("a lock of a process that runs is respected, also when it is a file or does not say when that one started", () =>
    inFolder((folder) =>
      Effect.gen(function*() {
        for (const left of [(at: string) => leave(at, process.ppid, ""), plainFile(process.ppid)]) {
          left(folder)
          expect(yield* Effect.flip(Effect.scoped(lockFolder(folder)))).toMatchObject({
            _tag: "FolderInUse",
            folder,
            pid: process.ppid
          })
          fs.rmSync(lockOf(folder), { recursive: true })
        }
      })
    ))

  it.live.skipIf(!fs.existsSync("/proc/self/stat"))(
    "a lock of a process that is dead, but still listed because its parent has not asked for it, is taken over",
    () =>
      inFolder((folder) =>
        Effect.scoped(Effect.gen(function*() {
          // becomes a program that asks for none of its children; one of these ends with the input
          const script = "exec 3<&0; cat <&3 >/dev/null & echo $!; exec 3<&-; exec sleep 60"
          const { child, first } = yield* Effect.acquireRelease(
            Effect.sync(() => start("sh", "-c", script)),
            ({ child }) => Effect.sync(() => child.kill())
          )
          const pid = Number(yield* Effect.promise(() => first))
          const of = (id: number | undefined, file: string) =>
            Effect.sync(() => fs.readFileSync(`/proc/${id}/${file}`, "utf8").trim())
          yield* Effect.repeat(of(child.pid, "comm"), {
            schedule: Schedule.spaced(10),
            until: (name) => name === "sleep"
          })
          child.stdin.end()
          const stat = yield* Effect.repeat(of(pid, "stat"), {
            schedule: Schedule.spaced(10),
            until: (line) => line.includes(") Z ")
          })
          const boot = fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
          leave(folder, pid, `${stat.split(" ")[21]}-${boot}`)
          yield* lockFolder(folder)
        }))
      )
  )

  it.live(
    "processes that take and leave a folder, and die in it, are never two in there",
    () =>
      inFolder((folder) =>
        Effect.gen(function*() {
          const gone = String(goneProcess())
          const racers = Array.from({ length: 4 }, () => program("lockRacer.ts", folder, "100", gone))
          const outputs = yield* Effect.promise(() => Promise.all(racers.map(({ ended }) => ended)))
          expect(outputs.flat().map((line) => line.slice(0, 15))).toEqual(racers.map(() => "taken 100 times"))
          // otherwise they came one after the other, and nothing was shown
          expect(outputs.flat().some((line) => line.includes("refused in between"))).toBe(true)
        })
      )
  )

  it.live(
    "after a crash, of three processes that start at once one opens the database, and the others are told so",
    () =>
      inFolder((folder) =>
        Effect.gen(function*() {
          const killed = program("opener.ts", folder)
          expect(yield* Effect.promise(() => killed.first)).toBe("open")
          killed.child.kill("SIGKILL")
          yield* Effect.promise(() => killed.ended)
          expect(fs.readdirSync(lockOf(folder))).toHaveLength(1)

          const next = [1, 2, 3].map(() => program("opener.ts", folder))
          const lines = yield* Effect.promise(() => Promise.all(next.map(({ first }) => first)))
          expect([...lines].sort()).toEqual(["FolderInUse", "FolderInUse", "open"])
          for (const { child } of next) child.stdin.end("go\n")
          yield* Effect.promise(() => Promise.all(next.map(({ ended }) => ended)))
          // what both have written is there
          expect(yield* within(folder, query("select count(*)::int as visits from visit"))).toEqual([{ visits: 2 }])
        })
      )
  )

  it.live("a folder that cannot be made is said so", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(within("/dev/null/data", query("select 1")))
      expect(error).toMatchObject({ _tag: "EmbeddedFailed" })
      expect(error.message).toContain("/dev/null/data")
    }))
})
