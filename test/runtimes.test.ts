/**
 * The packed package under the compilers and runtimes that README names. Those that are no packages of the project's are
 * installed when this is run; where that cannot be done the test is skipped and says why.
 */
import { execFile } from "node:child_process"
import { readFile, writeFile } from "node:fs/promises"
import { createRequire } from "node:module"
import os from "node:os"
import path from "node:path"
import { promisify } from "node:util"
import { beforeAll, describe, expect, it, type TestContext } from "vitest"
import { installed } from "./support/installed.ts"
import { onDemand } from "./support/onDemand.ts"

const exec = promisify(execFile)
const root = path.dirname(import.meta.dirname)

let project = ""
let readme = ""
let program = ""

const write = (name: string, text: string) => writeFile(path.join(project, name), text)
const run = (file: string, ...args: ReadonlyArray<string>) =>
  exec(file, args, { cwd: project, env: { ...process.env, NO_COLOR: "1" } }).catch(
    (error: { readonly stdout?: string }) => {
      throw new Error(`${String(error)}\n${error.stdout ?? ""}`, { cause: error })
    }
  )

/** The folder of a package, or the end of the test, which then is skipped. */
const needed = async (context: TestContext, name: string, spec: string): Promise<string> => {
  const found = await onDemand(name, spec)
  return "problem" in found ? context.skip(found.problem) : found.folder
}

beforeAll(async () => {
  readme = await readFile(path.join(root, "README.md"), "utf8")
  program = /^```ts\n(\/\/ program\.ts\n[^]*?)^```$/m.exec(readme)?.[1] ?? ""
  project = await installed()
  await write("runtimes.ts", program)
}, 240_000)

const options = {
  target: "ES2024",
  module: "NodeNext",
  strict: true,
  exactOptionalPropertyTypes: true,
  noEmit: true,
  // the package's own types are checked as well
  skipLibCheck: false,
  types: ["node"]
}

describe("the package's types", () => {
  it("are those of the compilers README names", () => {
    expect(readme).toContain("TypeScript 5.8 to 7")
  })

  // 7 checks the same program in consumer.test.ts
  it.for(["5.8.3", "6"] as const)("check under TypeScript %s", { timeout: 240_000 }, async (version, context) => {
    const folder = version === "6"
      ? path.join(root, "node_modules/ts6")
      : await needed(context, "typescript", `typescript@${version}`)
    await write(`tsconfig.${version}.json`, JSON.stringify({ compilerOptions: options, files: ["runtimes.ts"] }))
    expect(await run(process.execPath, path.join(folder, "bin/tsc"), "-p", `tsconfig.${version}.json`)).toEqual({
      stdout: "",
      stderr: ""
    })
  })

  it("check in a CommonJS module", async () => {
    await write(
      "common.cts",
      `import { Output } from "effect-sluice"
import { Schema } from "effect"
class Note extends Output.make("schemas.clinic.ward.note", { schema: Schema.Struct({ text: Schema.String }) }) {}
export const name: "note" = Note.shortName\n`
    )
    await write("tsconfig.common.json", JSON.stringify({ compilerOptions: options, files: ["common.cts"] }))
    const compiler = path.join(root, "node_modules/typescript/bin/tsc")
    expect(await run(process.execPath, compiler, "-p", "tsconfig.common.json")).toEqual({ stdout: "", stderr: "" })
  }, 240_000)
})

describe("README's program", () => {
  // runtimes print values each in a way of their own
  const says =
    /^recorded and, redelivered, unchanged\n1 persisted: \[\s*\{\s*id: 1,\s*simulation: ["']knee-1["'],\s*content: ["']It hurts on the inside\.["'],?\s*\},?\s*\]\n$/

  it("runs on Bun", async () => {
    const { stdout } = await run(path.join(root, "node_modules/bun/bin/bun.exe"), "run", "runtimes.ts")
    expect(stdout).toMatch(says)
  }, 240_000)

  it("runs on Deno", async (context) => {
    const folder = await needed(context, "deno", "deno@2.9.6")
    const libc = os.platform() === "linux" ? "-glibc" : ""
    const entry = createRequire(path.join(folder, "package.json"))
      .resolve(`@deno/${os.platform()}-${os.arch()}${libc}/package.json`)
    const deno = path.join(path.dirname(entry), os.platform() === "win32" ? "deno.exe" : "deno")
    const { stdout } = await run(deno, "run", "-A", "--node-modules-dir=manual", "runtimes.ts")
    expect(stdout).toMatch(says)
  }, 240_000)
})

describe("a CommonJS module", () => {
  it("requires the package on Node", async () => {
    await write(
      "common.cjs",
      `const { CallRecorder, Settings } = require("effect-sluice")
const MemoryStore = require("effect-sluice/store/MemoryStore")
const { Effect, Layer } = require("effect")
const recorded = Effect.gen(function*() {
  const recorder = yield* CallRecorder.CallRecorder
  const outputs = [{ schema: "schemas.clinic.ward.note", version: 1, data: { text: "slept well" } }]
  return yield* recorder.record({ callId: "call-1", namespace: "clinic", service: "services.clinic.ward.take-notes", outputs })
})
const application = CallRecorder.layer.pipe(Layer.provide(MemoryStore.layer), Layer.provide(Settings.layer()))
Effect.runPromise(recorded.pipe(Effect.provide(application))).then(console.log)
`
    )
    expect(await run(process.execPath, "common.cjs")).toEqual({ stdout: "recorded\n", stderr: "" })
  }, 120_000)
})
