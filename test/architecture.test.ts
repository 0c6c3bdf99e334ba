/**
 * ARCHITECTURE.md's picture, compared with the imports: every file has one place in it, and uses its own level and those
 * below it. The levels are read from the page: there is no other list.
 */
import { globSync, readFileSync } from "node:fs"
import path from "node:path"
import ts from "ts6"
import { describe, expect, it } from "vitest"

const root = path.dirname(import.meta.dirname)
const page = readFileSync(path.join(root, "ARCHITECTURE.md"), "utf8")
const sources = globSync("**/*.ts", { cwd: path.join(root, "src") }).map((file) => file.replace(/\.ts$/, ""))

/** A name in the picture: a file, or with a slash at its end a folder. */
interface Place {
  readonly level: string
  readonly name: string
}

/**
 * A row of the picture is a level's name, at its beginning, and the names in it; two spaces part them from each other and
 * from what is said of them, which has more than one word. A row that begins with spaces goes on with the level above.
 */
const readPicture = (text: string): ReadonlyArray<Place> => {
  const [, picture = ""] = /^## The picture$[^]*?^```$([^]*?)^```$/m.exec(text) ?? []
  const places: Array<Place> = []
  let level = ""
  for (const row of picture.split("\n")) {
    const [, label, rest = ""] = /^ (\S+)?(.*)$/.exec(row.replaceAll(/[│└─]/g, " ")) ?? []
    level = label ?? level
    const names = rest.split(/\s{2,}/).filter((cell) => /^[\w-]+(\/[\w-]*)*$/.test(cell))
    places.push(...names.map((name) => ({ level, name: level.endsWith("/") ? level + name : name })))
  }
  return places
}

const places = readPicture(page)
/** From the lowest up; the stores are beside them. */
const levels = [...new Set(places.map(({ level }) => level))].filter((level) => level !== "store/").reverse()

const covers = ({ name }: Place, file: string) => name.endsWith("/") ? file.startsWith(name) : file === name
/** Where a file stands; a folder's file that is named itself stands where it is named. */
const placesOf = (file: string): ReadonlyArray<Place> => {
  const found = places.filter((place) => covers(place, file))
  const named = found.filter(({ name }) => name === file)
  return named.length > 0 ? named : found
}
const levelOf = (file: string) => placesOf(file)[0]?.level ?? ""
const heightOf = (file: string) => levels.indexOf(levelOf(file))

const importsOf = (file: string): ReadonlyArray<string> => {
  const text = readFileSync(path.join(root, "src", `${file}.ts`), "utf8")
  return [...text.matchAll(/(?:\bfrom|\bimport|\bimport\()\s*"(\.[^"]+)"/g)].map(([, target]) =>
    path.posix.join(path.posix.dirname(file), target ?? "").replace(/\.ts$/, "")
  )
}
const imports = sources.flatMap((file) => importsOf(file).map((target) => [file, target] as const))
const isStore = (file: string) => levelOf(file) === "store/"
const arrows = (list: ReadonlyArray<readonly [string, string]>) => list.map((pair) => pair.join(" → "))

describe("the levels", () => {
  it("are five, and their files use each other", () => {
    expect(levels).toEqual(["words", "port", "services", "worker", "faces"])
    expect(imports.length).toBeGreaterThan(200)
  })

  it("every file of src/ has one place in the picture", () => {
    expect(sources.filter((file) => placesOf(file).length !== 1)).toEqual([])
  })

  it("and every name in the picture is a file or a folder of src/", () => {
    expect(places.filter((place) => !sources.some((file) => covers(place, file)))).toEqual([])
  })

  it("no file imports upward", () => {
    const upward = imports.filter(([file, target]) =>
      !isStore(file) && !isStore(target) && heightOf(target) > heightOf(file)
    )
    expect(arrows(upward)).toEqual([])
  })

  it("no files import each other in a circle, not even for types", () => {
    // a file is done when all that it imports is; what is left over at the end is a circle, or leads to one
    let left = sources
    while (true) {
      const waiting = left.filter((file) => imports.some(([from, target]) => from === file && left.includes(target)))
      if (waiting.length === left.length) break
      left = waiting
    }
    expect(left).toEqual([])
  })

  it("stores know the port and the words only, and only faces know a store", () => {
    const wrong = imports.filter(([file, target]) =>
      isStore(file)
        ? !isStore(target) && heightOf(target) > levels.indexOf("port")
        : isStore(target) && heightOf(file) < levels.indexOf("faces")
    )
    expect(arrows(wrong)).toEqual([])
  })

  it("the command knows no SQL: it asks services, and knows of a store what stands in store/ itself", () => {
    const command = sources.filter((file) => file.startsWith("cli/"))
    const inside = imports.filter(([file, target]) =>
      file.startsWith("cli/") && /^store\/(pg|memory|pglite)\//.test(target)
    )
    expect(arrows(inside)).toEqual([])
    const asking = command.filter((file) => {
      const text = readFileSync(path.join(root, "src", `${file}.ts`), "utf8")
      // a layer's type may name the client it provides; an error may be recognised
      const modules = [...text.matchAll(/^import (?!type )[^"]*"(effect\/sql\/[^"]+)"/gm)].map(([, name]) => name)
      return /\bsql(\.\w+)?[`(]/.test(text) || modules.some((name) => name !== "effect/sql/SqlError")
    })
    expect(asking).toEqual([])
    expect(command.length).toBeGreaterThan(30)
  })

  it("each module has its line in the table, and each line its module", () => {
    const rows = [...page.matchAll(/^\| (`[^|]+`) \| .+ \|$/gm)].flatMap(([, cell = ""]) =>
      [...cell.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name)
    )
    const modules = sources.filter((file) => !file.includes("/") && file !== "index")
    expect(modules.filter((module) => !rows.includes(module))).toEqual([])
    expect(rows.filter((row) => /^[A-Z]/.test(row) && !modules.includes(row))).toEqual([])
  })

  it("each dependency has its reason", () => {
    const [, table = ""] = /^## Dependencies[^]*?$([^]*?)^## /m.exec(page) ?? []
    const cells = [...table.matchAll(/^\| (`[^|]+) \| .+ \|$/gm)].map(([, cell = ""]) => cell)
    const named = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name))
    const { devDependencies, peerDependencies } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as {
      readonly devDependencies: Readonly<Record<string, string>>
      readonly peerDependencies: Readonly<Record<string, string>>
    }
    const wanted = new Set([...Object.keys(peerDependencies), ...Object.keys(devDependencies)])
    expect([...new Set(named)].sort()).toEqual([...wanted].sort())
  })
})

const textOf = (file: string): string => readFileSync(path.join(root, "src", `${file}.ts`), "utf8")
const linesOf = (text: string): number => text.trimEnd().split("\n").length

/** Functions longer than {@link longestFunction}, and why. */
const longFunctions: Readonly<Record<string, string>> = {
  "drain/unrecorded make": "an unrecorded call's store, verb by verb over the state they share",
  "store/MemoryStore makeStore": "the port in memory, verb by verb",
  "store/memory/inspector make": "the port for reading in memory, verb by verb",
  "store/pg/claim makeClaiming": "one claim's steps over the marks they share",
  "store/pg/persist persist": "one transaction from its begin to its commit, and what a failure of either means",
  "store/pg/eventLog make": "the event log on Postgres, verb by verb",
  "store/pg/erasure makePortion": "one portion, from the locks to the counts",
  "store/pg/record record": "one recording, from the calls given to an outcome for each",
  "store/memory/eventLog make": "the event log in memory, verb by verb",
  "CallRecorder layer": "the recorder's service, verb by verb",
  "Subscription run": "one subscription's loop over the state its steps share"
}
const longestFunction = 80

/** Files longer than {@link longestFile}, and why. */
const longFiles: Readonly<Record<string, string>> = {
  "store/pg/migrationFiles": "made from sql/*.sql"
}
const longestFile = 400

/** A topic of the contract is a list of scenes, written as a function for its types. */
const isTopic = (name: string): boolean => /^testing\/contract\/\w+ \w+$/.test(name)

/** The functions of a file that are too long, by the names they are defined under. */
const longFunctionsOf = (file: string): ReadonlyArray<string> => {
  const source = ts.createSourceFile(file, textOf(file), ts.ScriptTarget.Latest, true)
  const lineOf = (position: number) => source.getLineAndCharacterOfPosition(position).line
  const found: Array<string> = []
  const visit = (node: ts.Node, name: string): void => {
    const isNamed = ts.isVariableDeclaration(node) || ts.isFunctionDeclaration(node) ||
      ts.isPropertyDeclaration(node) || ts.isMethodDeclaration(node)
    const inner = isNamed ? node.name?.getText(source) ?? name : name
    const isLong = ts.isFunctionLike(node) && lineOf(node.end) - lineOf(node.getStart(source)) >= longestFunction
    if (isLong && !found.includes(`${file} ${inner}`)) found.push(`${file} ${inner}`)
    ts.forEachChild(node, (child) => visit(child, inner))
  }
  visit(source, "")
  return found
}

describe("sizes", () => {
  it(`no function is longer than ${longestFunction} lines, but for those with a reason`, () => {
    expect(sources.flatMap(longFunctionsOf).filter((name) => !isTopic(name)).sort()).toEqual(
      Object.keys(longFunctions).sort()
    )
  })

  it(`no file is longer than ${longestFile} lines, but for those with a reason`, () => {
    const long = sources.filter((file) => linesOf(textOf(file)) > longestFile)
    expect(long.sort()).toEqual(Object.keys(longFiles).sort())
  })
})

describe("names of files", () => {
  /** Public modules and entry points are named for those who import them, and a command's file for the command. */
  const isInside = (file: string) =>
    /^(cli|drain|internal)\/|^store\/.*\//.test(file) && !file.startsWith("cli/commands/")
  /** A file that provides a layer, or holds one class or value of its own name. */
  const holdsService = (file: string): boolean => {
    const name = path.basename(file)
    const own = `${name.charAt(0).toUpperCase()}${name.slice(1)}`
    return new RegExp(`^export (const layer\\b|(class|const) ${own}\\b)`, "m").test(textOf(file))
  }
  const isCapitalised = (file: string) => /^[A-Z]/.test(path.basename(file))

  it("begin with a capital where the file provides a layer or holds a class or value of that name, and nowhere else", () => {
    const wrong = sources.filter((file) => isInside(file) && isCapitalised(file) !== holdsService(file))
    expect(wrong).toEqual([])
  })
})
