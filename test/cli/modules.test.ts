/**
 * What a handler module may do to the process while it is loaded, and later: whatever it is, it is named, and the command
 * does not end as if all were well.
 */
import * as fs from "node:fs"
import path from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import type { Failure } from "../../src/cli/Failed.ts"
import { escapeProse } from "../../src/internal/escape.ts"
import { newDatabase, noteHandler, workplace } from "./workplace.ts"

const variables = { SLUICE_LOAD_TIMEOUT: "2s" }

describe("a module", { timeout: 240_000 }, () => {
  let url = ""
  beforeAll(async () => {
    url = await newDatabase()
    expect((await (await workplace(url)).sluice("migrate")).status).toBe(0)
  }, 240_000)

  const bad: ReadonlyArray<readonly [what: string, content: string, says: RegExp, status: number]> = [
    [
      "that ends the process",
      "process.exit(0)",
      /persist\/seed\.ts ended the process .*: .* at persist\/seed\.ts:1$/,
      1
    ],
    [
      "that ends it later",
      "setTimeout(() => process.exit(0), 100); await new Promise(() => {})",
      /persist\/seed\.ts ended the process while it was loaded: .* at persist\/seed\.ts:1$/,
      1
    ],
    [
      "that throws in a timer, with what it was given",
      "setTimeout(() => { throw new Error('no \\u001b[2J bed\\nFORGED') }, 100); await new Promise(() => {})",
      /an uncaught error at persist\/seed\.ts:1: no \\u001b\[2J bed$/,
      1
    ],
    [
      "whose promise is rejected",
      "Promise.reject(new Error('no bed')); await new Promise(() => {})",
      /an uncaught error at persist\/seed\.ts:1: no bed$/,
      1
    ],
    ["that waits", "await new Promise(() => {})", /persist\/seed\.ts: is not loaded within 2s/, 1],
    // nothing else in the process is heard by then
    ["that loops", "while (true) {}", /persist\/seed\.ts keeps the process busy: .* within 2s$/, 137],
    [
      "that loops without an end of its turn",
      "const next = (): Promise<void> => Promise.resolve().then(next)\nawait next()",
      /persist\/seed\.ts keeps the process busy: .* within 2s$/,
      137
    ]
  ]
  it.each(bad)("%s is named", async (_, content, says, status) => {
    const place = await workplace(url, variables)
    place.file("persist/seed.ts", `${content}\nexport {}`)
    const running = place.start("handlers", "--json")
    const { stderr, stdout, status: ended } = await new Promise<Awaited<typeof running.ended>>((resolve) => {
      running.child.on(
        "exit",
        (code, signal) =>
          void running.ended.then((all) => resolve({ ...all, status: signal === "SIGKILL" ? 137 : code }))
      )
    })
    const { error }: typeof Failure.Type = JSON.parse(stdout)
    expect({ ended, error: escapeProse(error) }).toEqual({ ended: status, error: expect.stringMatching(says) })
    expect(stderr).toContain(escapeProse(error))
    expect(stderr.split("\n").filter((line) => line.startsWith("FORGED"))).toEqual([])
  })

  it("that listens for signals does not keep running handlers from their end, and is named", async () => {
    const place = await workplace(url, variables)
    place.file("persist/notes.ts", noteHandler("waiting"))
    place.file(
      "persist/seed.ts",
      `process.on("SIGTERM", () => process.exit(0))
      process.removeAllListeners("SIGINT")
      export * from "./notes.ts"`
    )
    await place.sluice(
      "record",
      place.file(
        "calls.jsonl",
        `{"callId":"signal-1","namespace":"clinic","service":"services.clinic.ward.take-notes",` +
          `"outputs":[{"schema":"schemas.clinic.ward.note","version":1,"data":{"text":"a"}}]}`
      )
    )
    const running = place.start("drain", "--every", "1s")
    await running.says("begun")
    expect(running.output.stderr).toContain("persist/seed.ts listens for SIGINT or SIGTERM: that is not heeded")
    running.child.kill("SIGTERM")
    fs.writeFileSync(path.join(place.folder, "go"), "")
    expect(await running.ended).toMatchObject({ status: 0, stdout: "stopped; 1 claimed: 1 persisted\n" })
  })

  it("whose handler ends the process later is named, and does not look like a worker that was stopped by a signal", async () => {
    const place = await workplace(url, variables)
    place.file("persist/notes.ts", noteHandler("good").replace("yield* trouble(", "process.exit(0); yield* trouble("))
    await place.sluice(
      "record",
      place.file(
        "calls.jsonl",
        `{"callId":"exit-1","namespace":"clinic","service":"services.clinic.ward.take-notes",` +
          `"outputs":[{"schema":"schemas.clinic.ward.note","version":1,"data":{"text":"a"}}]}`
      )
    )
    const { status, stderr } = await place.sluice("drain", "--every", "1s")
    expect(status).toBe(1)
    expect(stderr).toMatch(
      /the process was ended before the command was: process\.exit was called at persist\/notes\.ts:\d+/
    )
  })
})

describe("the sources of a module", { timeout: 240_000 }, () => {
  let url = ""
  beforeAll(async () => {
    url = await newDatabase()
    expect((await (await workplace(url)).sluice("migrate")).status).toBe(0)
  }, 240_000)

  it("may be those of a project that is compiled: specifiers that end in .js, and enums", async () => {
    const place = await workplace(url)
    place.file(
      "persist/ward.ts",
      "export enum Ward { East = 'east' }\nexport namespace Beds { export const count = 4 }"
    )
    place.file(
      "persist/note.ts",
      `import { Beds, Ward } from "./ward.js"\nexport { notes } from "../handlers.js"\n` +
        `export const ward: string = Ward.East + Beds.count`
    )
    place.file("handlers.ts", noteHandler("good"))
    const { status, stderr, stdout } = await place.sluice("drain", "--check", "--handlers", "persist/note.ts")
    expect({ status, stdout }).toEqual({ status: 0, stdout: "loaded and built 1 handler; nothing was claimed\n" })
    expect(stderr).toContain("handlers: persist/note.ts: clinic/note")
    expect(stderr).not.toContain("Warning")
  })

  it("may be CommonJS", async () => {
    const place = await workplace(url)
    const handler = (name: string, schema: string) =>
      `const { Effect, Schema } = require("effect")\nconst { HandlerPlugin, Output } = require("effect-sluice")\n` +
      `class Note extends Output.make("schemas.clinic.ward.${name}", { schema: ${schema} }) {}\n` +
      `exports.notes = HandlerPlugin.layer("clinic", Note, Effect.succeed(() => Effect.void))\n`
    place.file("persist/plain.cjs", handler("plain", "Schema.String"))
    place.file("persist/typed.cts", `enum Ward { East = "east" }\n${handler("typed", "Schema.Enum(Ward)")}`)
    const { status, stderr, stdout } = await place.sluice("drain", "--check")
    expect({ status, stdout }).toEqual({ status: 0, stdout: "loaded and built 2 handlers; nothing was claimed\n" })
    expect(stderr).toContain("handlers: persist/plain.cjs: clinic/plain\nhandlers: persist/typed.cts: clinic/typed\n")
  })

  it("with imports in a package that is CommonJS are refused, and the error says how to name them", async () => {
    const place = await workplace(url)
    place.file("package.json", JSON.stringify({ type: "commonjs" }))
    place.file("persist/notes.ts", noteHandler("good"))
    const { status, stderr } = await place.sluice("drain", "--check")
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(/notes\.ts: does not load: .* rename the file to end in \.mts or \.mjs, or write/)
    })
  })

  const wrong: ReadonlyArray<readonly [what: string, file: string, content: string, says: RegExp]> = [
    [
      "TypeScript that is none",
      "seed.ts",
      "export const a = 1\nexport const b = {\n  c: 1,,\n}",
      /Unexpected token `,`.* \(persist\/seed\.ts:3:8\)$/m
    ],
    [
      "JavaScript that is none",
      "seed.js",
      "export const b = {\n  c: 1,,\n}",
      /Unexpected token ',' \(persist\/seed\.js:2:8\)$/m
    ],
    ["an import of TypeScript that is none", "seed.ts", "import '../broken.ts'", /\(broken\.ts:2:7\)$/m],
    ["an import of JavaScript that is none", "seed.js", "import '../broken.mjs'", /\(broken\.mjs:2:7\)$/m],
    ["a bug on its way", "seed.ts", "const a = 1\n\n  undefined.b", /persist\/seed\.ts:3:13\)$/m],
    [
      "an import without its ending",
      "seed.ts",
      "import '../other'",
      /Cannot find module .*: write the import as "\.\.\/other\.ts"$/m
    ],
    [
      "an import of a path of tsconfig.json",
      "seed.ts",
      "import '@/other'",
      /Cannot find package '@\/other' .*write `imports` in package\.json$/m
    ],
    [
      "an import of a type that is none of a value",
      "seed.ts",
      "import { Other } from '../other.ts'\nexport const a: Other = 1",
      /'Other' \(persist\/seed\.ts:1:10\): if that is a type, write `import type`$/m
    ],
    [
      "an import of JSON",
      "seed.ts",
      "import a from '../a.json'\nexport { a }",
      /write `with \{ type: "json" \}` behind the import$/m
    ],
    [
      "a layer that asks for a service nobody provides",
      "seed.ts",
      `${
        noteHandler("good")
      }\nimport { Context } from "effect"\nclass Beds extends Context.Service<Beds, string>()("clinic/Beds") {}
      export const more = HandlerPlugin.layer("ward", Note, Effect.map(Beds, () => () => Effect.void))`,
      /its layer cannot be built: Service not found: clinic\/Beds\. Provide that service's layer to it in the module$/m
    ]
  ]
  it.each(wrong)(
    "that hold %s are told of by file, line and column, or by what to write",
    async (_, file, content, says) => {
      const place = await workplace(url)
      place.file("broken.ts", "export const a = 1\nconst = 3")
      place.file("broken.mjs", "export const a = 1\nconst = 3")
      place.file("other.ts", "export type Other = number")
      place.file("a.json", "{}")
      place.file(`persist/${file}`, content)
      const { status, stderr } = await place.sluice("drain", "--check")
      expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(says) })
    }
  )
})

describe("the settings' file", { timeout: 120_000 }, () => {
  it("that ends the process is named as well", async () => {
    const place = await workplace(undefined)
    place.file("sluice.config.ts", "process.exit(0)\nexport default {}")
    const { status, stderr } = await place.sluice("status")
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringContaining("sluice.config.ts ended the process while it was loaded")
    })
  })
})

describe("a folder or file of handlers", { timeout: 120_000 }, () => {
  it("is no pattern, whatever its name holds", async () => {
    const place = await workplace(await newDatabase())
    await place.sluice("migrate")
    place.file("[id]/persist/right.ts", noteHandler("good"))
    place.file("i/persist/wrong.ts", "throw new Error(\"a module of another folder was loaded\")")
    for (const where of ["[id]", "[id]/persist/right.ts"]) {
      const { stderr } = await place.sluice("handlers", "--handlers", where)
      expect(stderr).toContain("handlers: [id]/persist/right.ts: clinic/note")
    }
  })
})
