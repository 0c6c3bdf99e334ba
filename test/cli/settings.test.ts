/**
 * Values of settings that are none: each is refused by its name, in words that say what to write. None of them silently
 * becomes a default, above all not another database.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { pathToFileURL } from "node:url"
import { afterEach, describe, expect, it, vi } from "vitest"
import { HandlersReport } from "../../src/cli/commands/handlers.ts"
import * as ConfigFile from "../../src/cli/ConfigFile.ts"
import * as options from "../../src/cli/options.ts"
import { handlers, run, runIn } from "./inProcess.ts"
import { newDatabase, noteHandler, workplace } from "./workplace.ts"

/** Values, as they are written in `sluice.config.ts`, and what is said of them. */
const wrong: ReadonlyArray<readonly [setting: string, value: string, says: string]> = [
  ["DATABASE_URL", "new URL(\"postgres://postgres@127.0.0.1:1/postgres\")", "is a URL object: write it as a string"],
  ["SLUICE_NAMESPACE", "[\"clinic\"]", "is a list: write a string"],
  ["SLUICE_LEASE", "Duration.seconds(5)", "is a Duration: write a string, as \"30 seconds\""],
  ["SLUICE_GRACE_PERIOD", "{ seconds: 5 }", "is an object: write a string, a number, true or false"],
  ["SLUICE_BATCH_SIZE", "10n", "is a bigint: write a string, a number, true or false"],
  ["SLUICE_IN_FLIGHT", "Number.NaN", "is NaN: write a string, a number, true or false"],
  ["SLUICE_MAX_ATTEMPTS", "Infinity", "is Infinity: write"],
  ["SLUICE_SCHEMA", "null", "is null: leave it out, or write a value"],
  ["SLUICE_POLL_INTERVAL", "process.env.NOT_SET", "is undefined: leave it out, or write a value"],
  ["SLUICE_EVERY", "() => \"5s\"", "is a function: write its result"],
  ["SLUICE_CRON", "Promise.resolve(\"* * * * *\")", "is a promise: await it"],
  ["SLUICE_NOTIFY", "[false]", "is a list: write a string, a number, true or false"],
  ["SLUICE_MAX_AGE", "300", "is a number: write a string"],
  ["SLUICE_HANDLERS", "[\"persist\", 5]", "is a list that does not hold only strings: write folders or globs"],
  ["SLUICE_METRICS_HOST", "true", "is a boolean: write a string"],
  ["SLUICE_LOAD_TIMEOUT", "\"\"", "is an empty string: leave it out, or write a value"],
  ["SLUICE_METRICS_PORT", "Symbol(\"9090\")", "is a symbol: write"],
  ["SLUICE_MAX_CRASHES", "new Map([[1, 2]])", "is an object (Map): write"],
  ["SLUICE_JSON", "new Boolean(true)", "is an object (Boolean): write"],
  ["OTEL_SERVICE_NAME", "[\"clinic\"]", "is a list: write"]
]

const exported: ReadonlyArray<readonly [content: string, says: string]> = [
  ["export default () => ({})", "must export default an object of settings; it exports a function"],
  ["export default Promise.resolve({})", "it exports a promise: await it"],
  ["export default new Map([[\"DATABASE_URL\", \"x\"]])", "it exports an object (Map)"],
  ["export default [{}]", "it exports a list"],
  ["export default null", "it exports null"],
  ["export default new (class Settings { SLUICE_BATCH_SIZE = 1 })()", "it exports an object (Settings)"],
  ["export default { get SLUICE_BATCH_SIZE() { throw new Error(\"not today\") } }", "its settings cannot be read"],
  ["export const settings = {}", "it exports nothing"]
]

describe("a setting of another type", { timeout: 240_000 }, () => {
  const here = process.cwd()
  const folders: Array<string> = []
  afterEach(() => {
    process.chdir(here)
    for (const folder of folders.splice(0)) fs.rmSync(folder, { recursive: true })
  })
  /** What is said of a file with this content. */
  const problemOf = async (content: string): Promise<string> => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-settings-"))
    folders.push(folder)
    fs.writeFileSync(path.join(folder, "sluice.config.mjs"), content)
    process.chdir(folder)
    const exit = await Effect.runPromise(Effect.result(Effect.scoped(Layer.build(ConfigFile.layer))))
    return Result.isFailure(exit) ? exit.failure.message : "none"
  }
  const effect = pathToFileURL(path.join(here, "node_modules/effect/dist/Duration.js")).href

  it("is refused by its name, with what to write, and without its value", async () => {
    const values = wrong.map(([name, value]) => `${name}: ${value}`).join(",\n")
    const said = await problemOf(`import * as Duration from "${effect}"\nexport default {\n${values}\n}`)
    for (const [name, , says] of wrong) expect(said).toContain(`${name} ${says}`)
    expect(said).not.toContain("127.0.0.1")
  })

  it.each(exported)("and so is what is no object of settings: %s", async (content, says) => {
    expect(await problemOf(content)).toContain(says)
  })

  it("does not make the command use another database", async () => {
    const place = await workplace()
    place.file("sluice.config.ts", `export default { DATABASE_URL: new URL("postgres://postgres@127.0.0.1:1/x") }`)
    const { status, stderr, stdout } = await place.sluice("record", place.file("calls.jsonl", ""))
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" })
    expect(stderr).toContain("sluice.config.ts: DATABASE_URL is a URL object: write it as a string")
    expect(fs.existsSync(path.join(place.folder, ".sluice"))).toBe(false)
  })

  it("accepts a list of handlers, and the result of defineConfig", async () => {
    const place = await workplace(undefined)
    place.file("one/notes.ts", noteHandler("good"))
    place.file("two/[more]/replies.ts", noteHandler("good").replace("ward.note", "ward.reply"))
    place.file(
      "sluice.config.ts",
      `import { defineConfig } from "effect-sluice/config"
      export default defineConfig({
        DATABASE_URL: "${await newDatabase()}",
        SLUICE_HANDLERS: ["one/*.ts", "two/[more]/replies.ts"],
        SLUICE_LEASE: "30s"
      })`
    )
    expect((await place.sluice("migrate")).status).toBe(0)
    const { handlers } = await place.asked(HandlersReport, "handlers")
    expect(handlers.map(({ name }) => name)).toEqual(["clinic/note", "clinic/reply"])
  })
})

describe("the environment", () => {
  afterEach(() => {
    vi.unstubAllEnvs()
  })
  const port = () =>
    Effect.runPromise(
      Effect.scoped(
        options.numberOf(Option.none(), "SLUICE_METRICS_PORT", { minimum: 1, maximum: 65_535 }).pipe(
          Effect.provide(ConfigFile.layer),
          Effect.map(Option.getOrUndefined)
        )
      )
    )

  it("sets no port where Kubernetes has put the address of a service that is named sluice-metrics", async () => {
    vi.stubEnv("SLUICE_METRICS_PORT", "tcp://10.0.0.1:9090")
    expect(await port()).toBeUndefined()
    vi.stubEnv("SLUICE_METRICS_PORT", "9090\n")
    expect(await port()).toBe(9090)
  })
})

describe("a settings file", { timeout: 120_000 }, () => {
  const url = "postgres://nobody@127.0.0.1:1/ward"
  const there = "database: 127.0.0.1:1/ward"
  /** What a command says in a folder with these files. */
  const said = async (files: Readonly<Record<string, string>>): Promise<string> => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-settings-"))
    try {
      for (const [name, content] of Object.entries(files)) {
        if (content === "a link that leads nowhere") fs.symlinkSync("/nowhere", path.join(folder, name))
        else fs.writeFileSync(path.join(folder, name), content)
      }
      return (await runIn(folder, "status")).stderr
    } finally {
      fs.rmSync(folder, { recursive: true })
    }
  }

  it("may be CommonJS, also as compilers write it", async () => {
    expect(await said({ "sluice.config.cjs": `module.exports = { DATABASE_URL: "${url}" }` })).toContain(there)
    const compiled = `exports.__esModule = true\nexports.default = { DATABASE_URL: "${url}" }`
    expect(await said({ "sluice.config.js": compiled, "package.json": "{}" })).toContain(there)
  })

  it("is not passed over in silence", async () => {
    expect(await said({ "sluice.config.json": "{}" })).toContain(
      "sluice.config.json is not read: write the settings in"
    )
    expect(await said({ "sluice.config.mjs": "a link that leads nowhere" })).toMatch(
      /sluice\.config\.mjs does not load/
    )
    const two = await said({
      "sluice.config.mjs": `export default { DATABASE_URL: "${url}" }`,
      "sluice.config.yaml": ""
    })
    expect(two).toContain(there)
    expect(two).toContain("sluice.config.yaml is not read: sluice.config.mjs is")
  })

  it("that holds the whole environment is refused in one short sentence", async () => {
    const names = Array.from({ length: 200 }, (_, n) => `VARIABLE_${n}: "x"`)
    const text = await said({ "sluice.config.mjs": `export default { ${names.join(", ")} }` })
    expect(text).toContain("VARIABLE_4, and 195 others; there are")
  })
})

describe("a value of a variable", () => {
  afterEach(() => vi.unstubAllEnvs())
  const away = ["--url", "postgres://nobody@127.0.0.1:1/none"]

  it.each([
    ["SLUICE_JSON", "maybe", "SLUICE_JSON is wrong: \"maybe\" is not true or false"],
    ["SLUICE_WORKERS", "two", "SLUICE_WORKERS is wrong: \"two\" is not a whole number"],
    ["SLUICE_NAMESPACE", "ward 7", "SLUICE_NAMESPACE: \"ward 7\" is not a namespace: it may hold only"],
    ["SLUICE_LISTEN_URL", "postgres://u:50%@host/ward", "SLUICE_LISTEN_URL is wrong: it is not the URL"]
  ])("%s=%s is refused in plain words", async (name, value, says) => {
    vi.stubEnv(name, value)
    const { failed, reason, stderr } = await run("drain", ...handlers, ...away)
    expect({ failed, text: reason + stderr }).toEqual({ failed: true, text: expect.stringContaining(says) })
  })

  it("of a switch may be written in capitals", async () => {
    vi.stubEnv("SLUICE_JSON", "TRUE")
    expect(JSON.parse((await run("status", ...away)).stdout)).toHaveProperty("error")
  })

  it("in quotation marks is no address", async () => {
    vi.stubEnv("DATABASE_URL", `"postgres://nobody:secret@127.0.0.1:1/none"`)
    const { reason } = await run("status")
    expect(reason).toBe("DATABASE_URL begins with a quotation mark, which is taken as it is: leave it out")
  })
})

describe("a variable that is not a setting", () => {
  afterEach(() => vi.unstubAllEnvs())

  it("is reported at the start of a command, with the setting that was probably meant", async () => {
    vi.stubEnv("SLUICE_BATCHSIZE", "7")
    vi.stubEnv("SLUICE_HANDLER", "persist")
    vi.stubEnv("SLUICE_COFFEE", "black")
    const { stderr, stdout } = await run("status", "--json", "--url", "postgres://nobody@127.0.0.1:1/none")
    expect(stderr.match(/^.*SLUICE_.*$/gm)).toEqual([
      "SLUICE_BATCHSIZE is not a setting and has no effect; did you mean SLUICE_BATCH_SIZE?",
      "SLUICE_HANDLER is not a setting and has no effect; did you mean SLUICE_HANDLERS?",
      "not settings, and without effect: SLUICE_COFFEE"
    ])
    expect(stdout).not.toContain("SLUICE_")
  })
})

describe("an empty value", { timeout: 120_000 }, () => {
  it("of a flag is refused", async () => {
    const here = process.cwd()
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-settings-"))
    process.chdir(folder)
    try {
      for (const flag of ["--url", "--namespace", "--handlers", "--every", "--metrics-host"]) {
        const { failed, stderr } = await run("drain", flag, "")
        expect({ flag, failed }).toEqual({ flag, failed: true })
        expect(stderr).toMatch(new RegExp(`${flag}(:| is empty| "" is no)|Missing value for flag ${flag}`))
      }
      expect(fs.readdirSync(folder)).toEqual([])
      // as a filter it would match everything
      const commands = [["dead", "discard", "--because", "over", "--text"], ["dead", "redrive", "--call"], [
        "pause",
        "--namespace"
      ]]
      for (const command of commands) {
        const { failed, stderr } = await run(...command, "", "--url", "postgres://nobody@127.0.0.1:1/none")
        expect({ command, failed, stderr }).toEqual({
          command,
          failed: true,
          stderr: expect.stringContaining("a value that is not empty")
        })
      }
    } finally {
      process.chdir(here)
      fs.rmSync(folder, { recursive: true })
    }
  })

  it("of a variable counts as not set: the file's value is used", async () => {
    const place = await workplace("")
    place.file("sluice.config.ts", "export default { DATABASE_URL: \"postgres://nobody@127.0.0.1:1/ward\" }")
    expect((await place.sluice("drain")).stderr).toContain("database: 127.0.0.1:1/ward")
  })
})
