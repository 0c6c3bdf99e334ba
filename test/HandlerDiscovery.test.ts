/**
 * Handler modules found by glob: which files are taken, in which order, and what is said of a wrong one.
 */
import { it } from "@effect/vitest"
import { HandlerDiscovery, HandlerRegistry } from "effect-sluice"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { afterAll, describe, expect } from "vitest"

const root = path.resolve(import.meta.dirname, "..")
const folders: Array<string> = []
afterAll(() => {
  for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true })
})

/** A folder with these files. */
const folderOf = (files: { readonly [name: string]: string }): string => {
  const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "sluice-discovery-")))
  folders.push(folder)
  for (const [name, content] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true })
    fs.writeFileSync(path.join(folder, name), content)
  }
  return folder
}

const imports = `import { HandlerPlugin, Output } from "${root}/src/index.ts"
import * as Context from "${root}/node_modules/effect/dist/Context.js"
import * as Effect from "${root}/node_modules/effect/dist/Effect.js"
import * as Layer from "${root}/node_modules/effect/dist/Layer.js"
import * as Schema from "${root}/node_modules/effect/dist/Schema.js"
const output = (name) => Output.make("schemas.clinic.ward." + name, { schema: Schema.String })
`
/** A module with a handler for each name. */
const moduleOf = (...names: ReadonlyArray<string>): string =>
  imports +
  names.map((name) => `export const ${name} = HandlerPlugin.layer("clinic", output("${name}"), () => Effect.void)\n`)
    .join("")

const load = (options: HandlerDiscovery.Options) =>
  Effect.scoped(Effect.map(HandlerDiscovery.load(options), ({ found }) => found))
const problemOf = (folder: string) => Effect.flip(load({ folders: [folder] }))
const registryOf = (options: HandlerDiscovery.Options) =>
  HandlerRegistry.layer().pipe(Layer.provide(HandlerDiscovery.layer(options)))

describe("handler modules", () => {
  it.effect("are those of every persist folder, in the order of their paths; no tests, no types, no packages", () =>
    Effect.gen(function*() {
      const folder = folderOf({
        "ward/persist/notes.ts": moduleOf("entry", "note"),
        "persist/b.mjs": moduleOf("b"),
        "persist/a.js": moduleOf("a"),
        "persist/c.mts": moduleOf("c"),
        "persist/a.test.ts": "throw new Error('a test was loaded')",
        "persist/a.d.ts": "throw new Error('types were loaded')",
        "persist/deeper/d.ts": "throw new Error('not directly in the folder')",
        "persist/readme.md": "not a program",
        "other/e.ts": "throw new Error('not in a persist folder')",
        "node_modules/somebody/persist/f.js": "throw new Error('a package was loaded')"
      })
      expect(yield* load({ folders: [folder] })).toEqual([
        { file: path.join(folder, "persist/a.js"), handlers: ["clinic/a"] },
        { file: path.join(folder, "persist/b.mjs"), handlers: ["clinic/b"] },
        { file: path.join(folder, "persist/c.mts"), handlers: ["clinic/c"] },
        { file: path.join(folder, "ward/persist/notes.ts"), handlers: ["clinic/entry", "clinic/note"] }
      ])
    }))

  it.effect("are looked for by the globs and in the folders that are given, each file once", () =>
    Effect.gen(function*() {
      const folder = folderOf({ "x/one.ts": moduleOf("one"), "y/two.ts": moduleOf("two") })
      const files = (options: HandlerDiscovery.Options) =>
        Effect.map(load(options), (found) => found.map(({ file }) => path.relative(folder, file)))
      expect(yield* files({ folders: [path.join(folder, "y"), folder], globs: ["*.ts", "**/*.ts", "x/*.ts"] })).toEqual(
        [
          "y/two.ts",
          "x/one.ts"
        ]
      )
      // a glob that starts at the root is itself
      expect(yield* files({ globs: [path.join(folder, "x/*.ts")] })).toEqual(["x/one.ts"])
      expect(yield* files({ folders: [path.join(folder, "nowhere")] })).toEqual([])
    }))

  it.effect("serve: what they export can be resolved", () =>
    Effect.gen(function*() {
      const folder = folderOf({ "persist/a.ts": moduleOf("a"), "persist/b.ts": moduleOf("b") })
      const { list, resolve } = yield* Effect.provide(
        HandlerRegistry.HandlerRegistry,
        registryOf({ folders: [folder] })
      )
      expect(list.map((handler) => handler.name)).toEqual(["clinic/a", "clinic/b"])
      expect((yield* resolve("clinic", "schemas.clinic.ward.b")).name).toBe("clinic/b")
    }))

  it.effect("are given the services of the program that loads them", () =>
    Effect.gen(function*() {
      class Ward extends Context.Service<Ward, string>()("test/Ward") {}
      const asks = `${imports}
        const Ward = Context.Service("test/Ward")
        export const note = HandlerPlugin.layer("clinic", output("note"), Effect.map(Ward, (ward) => {
          if (ward !== "seven") throw new Error("the ward is " + ward)
          return () => Effect.void
        }))`
      const folder = folderOf({ "persist/note.ts": asks })
      const found = yield* load({ folders: [folder] }).pipe(Effect.provideService(Ward, "seven"))
      expect(found).toMatchObject([{ handlers: ["clinic/note"] }])
      const missing = yield* problemOf(folder)
      expect(missing.message).toBe(
        `handler module ${path.join(folder, "persist/note.ts")}: its layer cannot be built: ` +
          `Service not found: test/Ward. Provide that service's layer to it in the module`
      )
    }))

  it.effect("may export one layer by two names, and a module may gather the others' layers", () =>
    Effect.gen(function*() {
      const folder = folderOf({
        "persist/index.ts": `export * from "./note.ts"\nexport { note as default } from "./note.ts"`,
        "persist/note.ts": `${moduleOf("note")}export default note\nexport const title = "notes"`
      })
      const { list } = yield* Effect.provide(HandlerRegistry.HandlerRegistry, registryOf({ folders: [folder] }))
      expect(list.map((handler) => handler.name)).toEqual(["clinic/note"])
    }))

  it.effect("may be members of an exported object, beside whatever else it exports", () =>
    Effect.gen(function*() {
      const folder = folderOf({
        "notes.ts": moduleOf("entry", "note"),
        "persist/ward.ts": `${imports}
          const layerOf = (name) => HandlerPlugin.layer("clinic", output(name), () => Effect.void)
          export const dose = layerOf("dose")
          export const handlers = { dose, visit: layerOf("visit"), title: "the ward" }
          export const list = [layerOf("order")]
          export * as notes from "../notes.ts"
          export const limits = { beds: 7 }
          export const nothing = null
          export class Ward { static get layer() { throw new Error("not to be read") } }`
      })
      const [found] = yield* load({ folders: [folder] })
      expect([...found!.handlers].sort()).toEqual(
        ["dose", "entry", "note", "order", "visit"].map((name) => `clinic/${name}`)
      )
    }))

  // of these texts, Node finds the names: none, the first, none, default
  const commonJs = {
    "exports.default, as compilers write it": "exports.__esModule = true; exports.default = make('note')",
    "an object of calls": "module.exports = { note: make('note'), dose: make('dose') }",
    "an object made by a loop": "for (const name of ['note', 'dose']) (module.exports ??= {})[name] = make(name)",
    "one layer": "module.exports = make('note')"
  }
  it.effect.each(Object.entries(commonJs))(
    "may be CommonJS, and none of its handlers is overlooked: %s",
    ([, text]) =>
      Effect.gen(function*() {
        const folder = folderOf({
          "layers.mjs": `${imports}export const layerOf = (name) =>
          HandlerPlugin.layer("clinic", output(name), () => Effect.void)`,
          "persist/wards.cjs": `const make = require("../layers.mjs").layerOf\n${text}`
        })
        const names = ["note", "dose"].filter((name) => text.includes(name)).map((name) => `clinic/${name}`)
        expect(yield* load({ folders: [folder] })).toMatchObject([{ handlers: names }])
      })
  )
})

describe("a wrong handler module", () => {
  const wrong: ReadonlyArray<readonly [what: string, content: string, says: string]> = [
    ["throws when it is loaded", "throw new Error('the ward is closed')", "does not load: the ward is closed"],
    ["is not a program", "this is none", "does not load: "],
    ["imports what is not there", "import 'no-such-package'", "does not load: "],
    ["exports nothing", "", "exports no handlers: export a layer made by HandlerPlugin.layer"],
    ["exports what is no layer", "export const note = () => 1", "exports no handlers"],
    [
      "exports layers without handlers",
      `${imports}export const other = Layer.succeed(Context.Service("x"), 1)`,
      "exports no handlers"
    ],
    [
      "exports a layer that fails",
      `${imports}export const note = HandlerPlugin.layer("clinic", output("note"), Effect.fail(new Error("no bed")))`,
      "its layer cannot be built: no bed"
    ]
  ]
  it.effect.each(wrong)("that %s is named, and the start stops", ([, content, says]) =>
    Effect.gen(function*() {
      const folder = folderOf({ "persist/a.ts": moduleOf("a"), "persist/wrong.ts": content })
      const file = path.join(folder, "persist/wrong.ts")
      const error = yield* problemOf(folder)
      expect(error).toMatchObject({ _tag: "HandlerModuleInvalid", file })
      expect(error.message).toContain(`handler module ${file}: ${says}`)
      expect(error.message).not.toContain("\n")
      const start = yield* Effect.flip(
        Effect.provide(HandlerRegistry.HandlerRegistry, registryOf({ folders: [folder] }))
      )
      expect(start).toMatchObject({ _tag: "HandlerModuleInvalid", file })
    }))

  it.effect("of two for one output both are named", () =>
    Effect.gen(function*() {
      const folder = folderOf({ "persist/a.ts": moduleOf("note"), "ward/persist/b.ts": moduleOf("note") })
      const error = yield* Effect.flip(
        Effect.provide(HandlerRegistry.HandlerRegistry, registryOf({ folders: [folder] }))
      )
      expect(error).toMatchObject({
        _tag: "DuplicateHandler",
        sources: [path.join(folder, "persist/a.ts"), path.join(folder, "ward/persist/b.ts")]
      })
    }))
})

describe("a folder", () => {
  it.effect("named by a link is that folder, where the glob names one; links elsewhere are not followed", () =>
    Effect.gen(function*() {
      const folder = folderOf({
        "real/a.ts": moduleOf("a"),
        "real/deeper/persist/b.ts": moduleOf("b"),
        "ward/readme.md": ""
      })
      fs.symlinkSync("../real", path.join(folder, "ward/persist"))
      fs.symlinkSync("../real", path.join(folder, "ward/elsewhere"))
      fs.symlinkSync("nowhere", path.join(folder, "real/persist"))
      // what leads nowhere was meant as a module where it has the name of one
      const other = folderOf({ "persist/a.ts": moduleOf("a") })
      fs.symlinkSync("nowhere.ts", path.join(other, "persist/b.ts"))
      expect((yield* problemOf(other)).message).toContain("b.ts: does not load")
      const found = yield* load({ folders: [folder] })
      expect(found.map(({ file }) => path.relative(folder, file))).toEqual([
        "real/deeper/persist/b.ts",
        "ward/persist/a.ts"
      ])
    }))

  it.effect("has a name, and no pattern, whatever it holds", () =>
    Effect.gen(function*() {
      for (const name of ["[id]", "(ward)", "{a,b}", "*", "!ward", "**"]) {
        const folder = folderOf({
          [`${name}/persist/right.ts`]: moduleOf("right"),
          "i/persist/wrong.ts": moduleOf("wrong"),
          "a/persist/wrong.ts": moduleOf("wrong"),
          "word/persist/wrong.ts": moduleOf("wrong")
        })
        const found = yield* load({ folders: [path.join(folder, name)] })
        expect(found.map(({ file }) => path.relative(folder, file))).toEqual([`${name}/persist/right.ts`])
      }
    }))
})

describe("a module that does not come to its end", () => {
  const waits: ReadonlyArray<readonly [what: string, content: string, says: string]> = [
    ["while it is loaded", "await new Promise(() => {})", "is not loaded within 1s: does it wait for something?"],
    [
      "while its layer is built",
      "export const note = Layer.effectDiscard(Effect.never)",
      "has a layer that is not built within 1s: does it wait for something?"
    ]
  ]
  for (const [what, content, says] of waits) {
    it.live(`is named, ${what}`, () =>
      Effect.gen(function*() {
        const folder = folderOf({ "persist/a.ts": moduleOf("a"), "persist/slow.ts": imports + content })
        const problem = yield* Effect.flip(load({ folders: [folder], timeout: "1 second" }))
        expect(problem.message).toBe(`handler module ${path.join(folder, "persist/slow.ts")}: ${says}`)
      }))
  }

  it.live("is left behind, when it cannot be interrupted", () =>
    Effect.gen(function*() {
      const content = "export const note = Layer.effectDiscard(Effect.uninterruptible(Effect.never))"
      const folder = folderOf({ "persist/slow.ts": imports + content })
      // long enough to load it
      const problem = yield* Effect.flip(load({ folders: [folder], timeout: "5 seconds" }))
      expect(problem.message).toContain("has a layer that is not built within 5s")
    }), 60_000)
})
