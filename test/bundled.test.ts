/**
 * A program that uses the package, bundled into one file and deployed alone: it needs no
 * file of the package's, and takes none of anybody else's for one.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { build, type BuildOptions } from "esbuild"
import { execFile } from "node:child_process"
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import path from "node:path"
import { promisify } from "node:util"
import { generated, stale } from "../scripts/generate.ts"
import { list } from "../src/store/Migrations.ts"
import { installed } from "./support/installed.ts"
import { client, freshDatabase } from "./support/Postgres.ts"

const exec = promisify(execFile)
const root = path.dirname(import.meta.dirname)

describe("the code", () => {
  it("holds the text of sql/*.sql and the version of package.json as they are", () => {
    expect(generated()).toHaveLength(2)
    expect(stale()).toEqual([])
  })

  it("has every statement of the files", async () => {
    const text = await readFile(path.join(root, "sql/0001_tables.sql"), "utf8")
    const [first] = list("sluice")
    expect(first).toMatchObject({ id: 1, name: "tables" })
    expect(first?.statements.map((one) => one.split("\n")[0])).toEqual(
      text.match(/^(create|alter|drop|insert|update) .*$/gm)?.map((line) => line.replace(/;$/, ""))
    )
  })
})

// records one call and drains it on the database whose address it is given, whether the tables are there or not
const program = `
import { CallRecorder, DomainEvents, DomainObject, Drain, HandlerPlugin, HandlerRegistry, Output, Settings } from "effect-sluice"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"

class Note extends Output.make("schemas.clinic.ward.note", { schema: Schema.Struct({ text: Schema.String }) }) {}
const handler = HandlerPlugin.layer("clinic", Note, () => Effect.succeed(DomainObject.make("clinic.Note", 1)))
const application = Layer.mergeAll(CallRecorder.layer, Drain.layer).pipe(
  Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handler))),
  Layer.provide(DomainEvents.layer),
  Layer.provide(PgStore.layer),
  Layer.provideMerge(Settings.layer()),
  Layer.provideMerge(PgClient.layer({ url: Redacted.make(process.env.DATABASE_URL!) }))
)
const main = Effect.gen(function*() {
  const recorder = yield* CallRecorder.CallRecorder
  const outputs = [yield* Note.encode({ text: "slept well" })]
  yield* recorder.record({ callId: "call-1", namespace: "clinic", service: "services.clinic.ward.take-notes", outputs })
  const { persisted } = yield* (yield* Drain.Drain).untilEmpty
  return { persisted, missing: (yield* Migrations.missing).length }
})
Effect.runPromise(main.pipe(Effect.provide(application))).then(
  (answer) => console.log(JSON.stringify(answer)),
  (error) => {
    console.error(error)
    process.exitCode = 1
  }
)
`

const onServer = "PgClient.layer({ url: Redacted.make(process.env.DATABASE_URL!) })"
/** The same on an embedded database. */
const embedded = program.replace(onServer, "Pglite.layer()").replace(
  "import * as PgStore",
  "import * as Pglite from \"effect-sluice/store/Pglite\"\nimport * as PgStore"
)

/** Makes one file of the program and the packed package, as that is installed in a project, and says how it is run. */
const makers: Readonly<
  Record<string, (folder: string) => Promise<readonly [file: string, ...args: ReadonlyArray<string>]>>
> = {
  "an ECMAScript module by esbuild": (folder) => bundle(folder, "esm", "app.mjs"),
  "a CommonJS module by esbuild": (folder) => bundle(folder, "cjs", "app.cjs"),
  "a minified module by esbuild": (folder) => bundle(folder, "esm", "app.mjs", { minify: true }),
  "an executable by Bun": async (folder) => {
    const source = path.join(await installed(), "bundled.ts")
    await writeFile(source, program)
    const bun = path.join(root, "node_modules/bun/bin/bun.exe")
    const app = path.join(folder, "app")
    await exec(bun, ["build", "--compile", source, "--outfile", app], { cwd: folder })
    return [app]
  }
}

const bundle = async (
  folder: string,
  format: "esm" | "cjs",
  name: string,
  options: BuildOptions = {},
  contents = program
) => {
  const requires = "import { createRequire } from \"node:module\"; const require = createRequire(import.meta.url);"
  await build({
    stdin: { contents, loader: "ts", resolveDir: await installed() },
    bundle: true,
    platform: "node",
    format,
    outfile: path.join(folder, name),
    logLevel: "error",
    ...(format === "esm" ? { banner: { js: requires } } : {}),
    ...options
  })
  return [process.execPath, name] as const
}

const temporary = Effect.acquireRelease(
  Effect.promise(async () => realpath(await mkdtemp(path.join(tmpdir(), "sluice-bundled-")))),
  (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
)

describe("a program in one file", () => {
  for (const [what, make] of Object.entries(makers)) {
    it.live(`starts, makes its tables and drains: ${what}`, () =>
      Effect.gen(function*() {
        const folder = yield* temporary
        const url = yield* freshDatabase()
        const { stdout } = yield* Effect.promise(async () => {
          const place = path.join(folder, "dist/server")
          await mkdir(place, { recursive: true })
          // where a path relative to the code would lead, there is another's SQL
          for (const sql of ["sql", "dist/sql", "dist/server/sql"]) {
            await mkdir(path.join(folder, sql))
            await writeFile(path.join(folder, sql, "0007_reset.sql"), "create table ran_by_sluice (id int);\n")
          }
          const [file, ...args] = await make(place)
          return exec(file, args, { cwd: place, env: { ...process.env, DATABASE_URL: url } })
        })
        expect(JSON.parse(stdout)).toEqual({ persisted: 1, missing: 0 })
        const others = yield* Effect.provide(
          Effect.flatMap(
            SqlClient.SqlClient,
            (sql) => sql`select relname from pg_stat_user_tables where schemaname <> 'sluice'`
          ),
          client(url)
        )
        expect(others).toEqual([])
      }).pipe(Effect.scoped), 240_000)
  }
})

describe("a program in one file with the embedded database", { timeout: 240_000 }, () => {
  const runs = async (folder: string, format: "esm" | "cjs", options: BuildOptions = {}) => {
    const args = await bundle(folder, format, `app.${format === "esm" ? "mjs" : "cjs"}`, options, embedded)
    return await exec(args[0], args.slice(1), { cwd: folder }).catch(
      (error: { readonly stdout: string; readonly stderr: string }) => error
    )
  }

  for (const format of ["esm", "cjs"] as const) {
    it.live(`says which package to leave out of the bundle: ${format}`, () =>
      Effect.gen(function*() {
        const folder = yield* temporary
        const { stderr, stdout } = yield* Effect.promise(() => runs(folder, format))
        expect(stdout).toBe("")
        expect(stderr).toMatch(/the embedded database did not start|EmbeddedFailed/)
        expect(stderr).toContain("leave the package out of the bundle")
      }).pipe(Effect.scoped))
  }

  it("works if that package is left out", async () => {
    // as installed where the program runs
    const folder = await mkdtemp(path.join(await installed(), "external-"))
    const { stdout } = await runs(folder, "esm", { external: ["@electric-sql/*"] })
    expect(JSON.parse(stdout)).toEqual({ persisted: 1, missing: 0 })
  })
})

describe("handler modules, which are found when the program runs", () => {
  it("are no modules of a bundle: webpack is told not to look for them there", async () => {
    const file = path.join(await installed(), "node_modules/effect-sluice/dist/HandlerDiscovery.js")
    expect(await readFile(file, "utf8")).toMatch(/ import\([^;]*\/\* webpackIgnore: true \*\//)
  })
})
