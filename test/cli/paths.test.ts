/**
 * Paths that are not what the command expects: each is named in words, without the codes of the operating system.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { runIn } from "./inProcess.ts"

describe("a path that is not what it should be", () => {
  let folder = ""
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-paths-"))
  })
  afterEach(() => fs.rmSync(folder, { recursive: true }))

  /** The command's error, which must be words. */
  const errorOf = async (...args: ReadonlyArray<string>): Promise<string> => {
    const { status, stderr } = await runIn(folder, ...args)
    expect(status).toBe(1)
    expect(stderr).not.toMatch(/\bE(?!RROR)[A-Z]{4,}\b|ERR_|^\s+at /m)
    return stderr
  }

  it("is named: the settings are a folder", async () => {
    fs.mkdirSync(path.join(folder, "sluice.config.ts"))
    expect(await errorOf("status")).toContain("sluice.config.ts is a folder, not a file")
  })

  it("is named: the database's folder is a file", async () => {
    fs.writeFileSync(path.join(folder, ".sluice"), "")
    expect(await errorOf("status")).toContain("no folder \".sluice\": it is a file")
  })

  it("is named: a place of handlers", async () => {
    fs.writeFileSync(path.join(folder, "notes.ts"), "")
    expect(await errorOf("drain", "--embedded", "--handlers", "x".repeat(5000))).toMatch(/the path x+… is too long/)
    for (const place of ["none.ts", "notes.ts/more.ts"]) {
      expect(await errorOf("drain", "--embedded", "--handlers", place)).toContain(`there is no module ${place}`)
    }
    fs.mkdirSync(path.join(folder, "ward"))
    expect(await errorOf("drain", "--embedded", "--handlers", "ward")).toContain(
      "--handlers: no module in ward matches **/persist/*.{ts,js,mts,mjs,cts,cjs}: give a glob, \"ward/*.ts\""
    )
    // nothing was made for it
    expect(fs.readdirSync(folder)).toEqual(["notes.ts", "ward"])
  })

  it("is named: what init reads and writes", async () => {
    fs.mkdirSync(path.join(folder, "package.json"))
    expect(await errorOf("init")).toContain(`${folder}/package.json is a folder, not a file`)
    fs.rmdirSync(path.join(folder, "package.json"))
    fs.mkdirSync(path.join(folder, ".gitignore"))
    expect(await errorOf("init")).toContain(".gitignore is a folder, not a file")
    fs.rmdirSync(path.join(folder, ".gitignore"))
    fs.writeFileSync(path.join(folder, "persist"), "")
    expect(await errorOf("init")).toMatch(/persist (exists already|goes through a file)|persist.* is a file/)
  })
})
