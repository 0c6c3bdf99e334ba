/**
 * The folder of an embedded database is its owner's: nobody else reads it or writes in it, whatever it was before.
 */
import { it } from "@effect/vitest"
import * as Pglite from "effect-sluice/store/Pglite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Result from "effect/Result"
import { spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import { createServer } from "node:net"
import * as os from "node:os"
import path from "node:path"
import { afterEach, describe, expect } from "vitest"
import { makePrivate } from "../../src/store/pglite/privateFolder.ts"
import * as socketFolder from "../../src/store/pglite/socketFolder.ts"

const folders: Array<string> = []
const umask = process.umask()
afterEach(() => {
  process.umask(umask)
  for (const folder of folders.splice(0)) fs.rmSync(folder, { recursive: true, force: true })
})

const newFolder = (): string => {
  const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "sluice-rights-test-")))
  folders.push(folder)
  return folder
}
const rightsOf = (file: string): string => (fs.statSync(file).mode & 0o777).toString(8)

/** What the log says while a folder is made, or why it is not. */
const madePrivate = (folder: string) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const heard = Logger.layer([Logger.map(Logger.formatLogFmt, (line) => void lines.push(line))])
    const made = yield* Effect.result(Effect.provide(makePrivate(folder), heard))
    return { problem: Result.isFailure(made) ? made.failure.message : undefined, said: lines.join("\n") }
  })
const fine = { problem: undefined, said: "" }

const isRoot = process.getuid?.() === 0
const nobody = 65534

describe.skipIf(process.platform === "win32")("the folder of an embedded database", () => {
  it.live("is closed to others when it is made, whatever the umask, and so are its data", () =>
    Effect.gen(function*() {
      for (const mask of [0, 0o022, 0o077, 0o177]) {
        process.umask(mask)
        const folder = path.join(newFolder(), "deep/er")
        fs.mkdirSync(path.dirname(folder), { mode: 0o700 })
        fs.chmodSync(path.dirname(folder), 0o700)
        expect(yield* madePrivate(folder)).toEqual(fine)
        expect([mask, rightsOf(folder), rightsOf(path.join(folder, "data"))]).toEqual([mask, "700", "700"])
      }
    }))

  it.live("is closed when it is there and open", () =>
    Effect.gen(function*() {
      const folder = newFolder()
      fs.mkdirSync(path.join(folder, "data"))
      for (const file of [folder, path.join(folder, "data")]) fs.chmodSync(file, 0o777)
      expect(yield* madePrivate(folder)).toEqual(fine)
      expect([rightsOf(folder), rightsOf(path.join(folder, "data"))]).toEqual(["700", "700"])
    }))

  it.live("keeps its rights when it holds other things, and only the data are closed; what others can do then is said", () =>
    Effect.gen(function*() {
      const folder = newFolder()
      fs.writeFileSync(path.join(folder, "package.json"), "{}")
      fs.chmodSync(folder, 0o755)
      expect(yield* madePrivate(folder)).toEqual(fine)
      expect([rightsOf(folder), rightsOf(path.join(folder, "data"))]).toEqual(["755", "700"])
      fs.chmodSync(folder, 0o777)
      expect((yield* madePrivate(folder)).said).toMatch(
        /level=WARN .*not safe from others: others may write in .*chmod 700/
      )
    }))

  it.live("in a folder in which others may write is told of, but not in one like /tmp", () =>
    Effect.gen(function*() {
      const above = newFolder()
      fs.chmodSync(above, 0o777)
      expect((yield* madePrivate(path.join(above, "db"))).said).toMatch(
        /others may write in .*in place of the one in it/
      )
      fs.chmodSync(above, 0o1777)
      expect(yield* madePrivate(path.join(above, "other"))).toEqual(fine)
    }))

  it.live.skipIf(!isRoot)(
    "of another user is told of to root, and so is a link that another user made",
    () =>
      Effect.gen(function*() {
        const folder = newFolder()
        fs.chownSync(folder, nobody, nobody)
        expect((yield* madePrivate(folder)).said).toContain(`belongs to another user (uid ${nobody})`)
        const link = path.join(newFolder(), "db")
        fs.symlinkSync(newFolder(), link)
        expect(yield* madePrivate(link)).toEqual(fine)
        fs.lchownSync(link, nobody, nobody)
        expect((yield* madePrivate(link)).problem).toContain("is a link that another user made")
      })
  )

  it.live.skipIf(!isRoot)("of another user is refused to everybody else", () =>
    Effect.sync(() => {
      const above = newFolder()
      fs.chmodSync(above, 0o755)
      const folder = path.join(above, "db")
      fs.mkdirSync(folder, { mode: 0o777 })
      fs.chmodSync(folder, 0o777)
      const program = `process.setgid(${nobody}); process.setuid(${nobody})
        const { makePrivate } = await import(${
        JSON.stringify(import.meta.resolve("../../src/store/pglite/privateFolder.ts"))
      })
        const { Effect } = await import("effect")
        console.log(String(await Effect.runPromiseExit(makePrivate(${JSON.stringify(folder)}))))`
      const { stdout } = spawnSync(
        process.execPath,
        ["--no-warnings", "--conditions=sluice-source", "--input-type=module", "--eval", program],
        { cwd: path.resolve(import.meta.dirname, "../.."), encoding: "utf8" }
      )
      expect(stdout).toContain(
        "belongs to another user (uid 0), who can read and change all of it: use a folder of your own"
      )
    }))

  it.live("is read by nobody else, though PGlite opens its files to all", () =>
    Effect.gen(function*() {
      process.umask(0o022)
      const folder = path.join(newFolder(), "db")
      yield* Effect.scoped(Layer.build(Layer.fresh(Pglite.layer({ dataDir: folder }))))
      const data = path.join(folder, "data")
      expect([rightsOf(folder), rightsOf(data)]).toEqual(["700", "700"])
      // else this test shows nothing
      expect(fs.readdirSync(data)).toContain("PG_VERSION")
      if (!isRoot) return
      fs.chmodSync(path.dirname(folder), 0o755)
      const read = spawnSync("cat", [path.join(data, "PG_VERSION")], { uid: nobody, gid: nobody, encoding: "utf8" })
      expect(read.status).not.toBe(0)
      expect(read.stderr).toContain("Permission denied")
    }), 60_000)
})

const tmp = process.env["TMPDIR"]
afterEach(() => {
  if (tmp === undefined) delete process.env["TMPDIR"]
  else process.env["TMPDIR"] = tmp
})

describe.skipIf(process.platform === "win32")("the folder of a socket", () => {
  it.live("can be used wherever the temporary directory is, whatever the umask", () =>
    Effect.promise(async () => {
      const deep = path.join(newFolder(), "d".repeat(100))
      fs.mkdirSync(deep)
      for (const directory of [deep, "/nowhere", path.relative(".", newFolder())]) {
        process.env["TMPDIR"] = directory
        process.umask(0o777)
        const folder = await socketFolder.make()
        process.umask(umask)
        folders.push(folder)
        const server = createServer()
        await new Promise<void>((resolve, reject) =>
          server.on("error", reject).listen(socketFolder.socketIn(folder), () => resolve())
        )
        expect([directory, path.isAbsolute(folder), rightsOf(folder)]).toEqual([directory, true, "700"])
        await new Promise((resolve) => server.close(resolve))
      }
    }))
})

describe.skipIf(process.platform === "win32")("what a killed process has left in the temporary directory", () => {
  /** A folder with a socket on which nobody listens any more. */
  const left = async (name: string): Promise<string> => {
    const folder = path.join(os.tmpdir(), name)
    fs.mkdirSync(folder)
    const program = `require("net").createServer().listen(${JSON.stringify(path.join(folder, ".s.PGSQL.5432"))},
      () => console.log("listening"))`
    const child = spawn(process.execPath, ["--eval", program])
    await new Promise((resolve) => child.stdout.once("data", resolve))
    const gone = new Promise((resolve) => child.once("exit", resolve))
    child.kill("SIGKILL")
    await gone
    return folder
  }

  it.live("is removed by the next that starts, and nothing else is", () =>
    Effect.promise(async () => {
      process.env["TMPDIR"] = newFolder()
      const abandoned = await left("sluice-Abc123")
      // what is not exactly as we make it is somebody else's
      const kept = [await left("sluice-longer-name"), path.join(os.tmpdir(), "sluice-backup")]
      fs.mkdirSync(kept[1] ?? "")
      fs.writeFileSync(path.join(kept[1] ?? "", "dump.sql"), "")
      const other = await left("sluice-Def456")
      fs.writeFileSync(path.join(other, "notes"), "")
      const used = await socketFolder.make()
      const server = createServer()
      await new Promise<void>((resolve) => server.listen(socketFolder.socketIn(used), () => resolve()))
      const hour = 3_600_000
      // one that has just been made may not listen yet
      const now = fs.statSync(abandoned).mtimeMs
      await socketFolder.sweep(now)
      expect(fs.existsSync(abandoned)).toBe(true)
      await socketFolder.sweep(now + 2 * hour)
      expect(fs.existsSync(abandoned)).toBe(false)
      for (const folder of [...kept, other, used]) expect([folder, fs.existsSync(folder)]).toEqual([folder, true])
      await new Promise((resolve) => server.close(resolve))
    }))
})
