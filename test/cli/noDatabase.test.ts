/**
 * Where no database is given and none is there: the command says so, and makes none unless it is told to.
 */
import * as fs from "node:fs"
import path from "node:path"
import { describe, expect, it } from "vitest"
import { notes, workplace } from "./workplace.ts"

const says = "there is no database: neither --url nor DATABASE_URL says which, and there is none in ./.sluice"

describe("without a database", { timeout: 240_000 }, () => {
  it("commands that put something in say so, name the ways there are, and leave nothing behind", async () => {
    const place = await workplace()
    const file = place.file("calls.jsonl", notes(1))
    for (const args of [["drain"], ["drain", "--every", "1s"], ["record", file], ["migrate"], ["prune"], ["status"]]) {
      const { status, stderr } = await place.inside(...args)
      expect({ args, status }).toEqual({ args, status: 1 })
      expect(stderr).toContain(says)
      for (const way of ["`sluice init`", "--embedded", "--url", "DATABASE_URL"]) expect(stderr).toContain(way)
    }
    // a check claims nothing, and makes nothing
    const { status, stderr } = await place.inside("drain", "--check", "--embedded")
    expect(status).toBe(1)
    expect(stderr).toContain("--check makes no database, and there is none in ./.sluice yet")
    expect(fs.readdirSync(place.folder)).toEqual(["calls.jsonl"])
    // the demo's database is one in a folder of its own
    place.file(".sluice/demo/data/PG_VERSION", "18")
    expect((await place.inside("status")).stderr).toContain(says)
    expect(fs.readdirSync(path.join(place.folder, ".sluice"))).toEqual(["demo"])
  })

  it("--embedded makes one, and from then on it is there", async () => {
    const place = await workplace()
    const file = place.file("calls.jsonl", notes(1))
    expect((await place.inside("record", file, "--embedded")).stdout).toMatch(/^1 recorded/)
    expect((await place.inside("record", file)).stdout).toMatch(/^0 recorded, 1 known already/)
  })

  it("--embedded beside an address is refused, for one of them is a mistake", async () => {
    const place = await workplace("postgres://nobody@127.0.0.1:1/ward")
    const { status, stderr } = await place.inside("drain", "--embedded")
    expect(status).toBe(1)
    expect(stderr).toContain("--embedded: --url names a Postgres server. Leave one of them out")
    expect(fs.readdirSync(place.folder)).toEqual([])
  })

  it("and without the embedded packages says what to install, and that a server will do", async () => {
    const place = await workplace(undefined, { NODE_OPTIONS: "--import ./without.mjs" })
    place.file(
      "without.mjs",
      `import { registerHooks } from "node:module"
      registerHooks({
        resolve: (name, context, next) => {
          if (name.startsWith("@electric-sql/")) throw new Error("not found")
          return next(name, context)
        }
      })`
    )
    for (const args of [["init"], ["drain", "--embedded"]]) {
      const { status, stderr } = await place.sluice(...args)
      expect({ args, status }).toEqual({ args, status: 1 })
      expect(stderr).toContain("npm install @electric-sql/pglite@0.5.14 @electric-sql/pglite-socket@0.2.17")
      expect(stderr).toContain("DATABASE_URL")
    }
    expect(fs.readdirSync(place.folder)).toEqual(["without.mjs"])
  })
})

describe("init and git", { timeout: 240_000 }, () => {
  it("adds the embedded database to what git ignores, once, whatever stands there", async () => {
    const place = await workplace()
    const file = path.join(place.folder, ".gitignore")
    place.file(".gitignore", "node_modules")
    await place.inside("init")
    expect(fs.readFileSync(file, "utf8")).toBe("node_modules\n.sluice\n")
    for (const content of ["node_modules\n.sluice\n", "/.sluice/\r\ndist\r\n", ".sluice/*\n"]) {
      fs.writeFileSync(file, content)
      expect((await place.inside("init")).stdout).toMatch(/^the tables were there\nnext:\n/)
      expect(fs.readFileSync(file, "utf8")).toBe(content)
    }
  })
})
