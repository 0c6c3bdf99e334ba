/**
 * The package as others get it: type-checked against, and run. The program is the README's, as printed. The command is
 * in `test/cli`.
 */
import { execFile } from "node:child_process"
import { access, mkdir, readFile, writeFile } from "node:fs/promises"
import path from "node:path"
import { promisify } from "node:util"
import { beforeAll, describe, expect, it } from "vitest"
import { installed } from "./support/installed.ts"

const root = path.dirname(import.meta.dirname)
const exec = promisify(execFile)

/** The first block of a language in the README that begins like this. */
const readmeBlock = (readme: string, language: string, beginning: string): string => {
  const block = [...readme.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].find(([, lang, text]) =>
    lang === language && text?.startsWith(beginning)
  )
  if (block?.[2] === undefined) throw new Error(`README has no ${language} block that begins with ${beginning}`)
  return block[2]
}

let project = ""
let readme = ""

/** Runs a program in the throw-away project. */
const run = async (file: string, ...args: ReadonlyArray<string>) => {
  try {
    return await exec(file, args, { cwd: project })
  } catch (error) {
    // the reason is in what it printed
    if (error instanceof Error && "stdout" in error) {
      throw new Error(`${error.message}\n${error.stdout}`, { cause: error })
    }
    throw error
  }
}
const write = (name: string, text: string) => writeFile(path.join(project, name), text)

beforeAll(async () => {
  readme = await readFile(path.join(root, "README.md"), "utf8")
  project = await installed()
  await write(
    "tsconfig.json",
    JSON.stringify({
      compilerOptions: {
        target: "ES2024",
        module: "NodeNext",
        strict: true,
        exactOptionalPropertyTypes: true,
        erasableSyntaxOnly: true,
        verbatimModuleSyntax: true,
        noEmit: true,
        // the package's own types are checked as well
        skipLibCheck: false,
        types: ["node"]
      },
      files: ["program.ts"]
    })
  )
}, 240_000)

describe("the packed package", () => {
  it("README's program type-checks against it", async () => {
    await write("program.ts", readmeBlock(readme, "ts", "// program.ts"))
    const compiler = path.join(root, "node_modules/typescript/bin/tsc")
    expect(await run(process.execPath, compiler, "-p", ".")).toEqual({ stdout: "", stderr: "" })
  }, 120_000)

  it("README's program runs as printed, and prints what README says", async () => {
    await write("program.ts", readmeBlock(readme, "ts", "// program.ts"))
    const { stdout } = await run(process.execPath, "program.ts")
    expect(stdout).toBe(readmeBlock(readme, "text", "recorded and"))
  }, 120_000)

  it("README's handler as a program compiles in the declared one's place, and does the same", async () => {
    const programmed = readmeBlock(readme, "ts", "// It is called for one answer")
    const declared = readmeBlock(readme, "ts", "// program.ts")
    const text = declared
      .replace(/const ChatlabHandlers = [^]*?\n\}\)\n/, () => programmed)
      .replace("DomainEvents,", "DomainEvents, DomainObject,")
    expect(text).toContain("insert into message")
    await write("program.ts", text)
    const compiler = path.join(root, "node_modules/typescript/bin/tsc")
    expect(await run(process.execPath, compiler, "-p", ".")).toEqual({ stdout: "", stderr: "" })
    const { stdout } = await run(process.execPath, "program.ts")
    expect(stdout).toBe(readmeBlock(readme, "text", "recorded and"))
  }, 120_000)

  it("brings the contract, which finds by itself what a store of others does not keep", async () => {
    await write("store.ts", await readFile(path.join(root, "test/support/foreignStore.ts"), "utf8"))
    const played = async (...args: ReadonlyArray<string>) =>
      // the drains of some scenes log before
      JSON.parse((await run(process.execPath, "store.ts", ...args)).stdout.trim().split("\n").at(-1) ?? "")
    const { failures, scenes } = await played()
    expect(failures).toEqual([])
    expect(scenes).toBeGreaterThan(100)
    const wrong = await played("wrong")
    expect(wrong.scenes).toBe(scenes)
    expect(wrong.failures.length).toBeLessThan(scenes / 4)
    expect(wrong.failures).toContainEqual(
      expect.stringMatching(/^recording: .+: \["recorded"\] does not equal \["unchanged"\]$/)
    )
  }, 120_000)

  it("brings the pages and examples that README leads to", async () => {
    const led = [...readme.matchAll(/\]\(([^):#]+)(?:#[^)]*)?\)/g)].map(([, file]) => file ?? "")
    expect(led.length).toBeGreaterThan(2)
    for (const file of led) {
      await expect(access(path.join(project, "node_modules/effect-sluice", file))).resolves.toBeUndefined()
    }
  })

  it("what is internal cannot be imported", async () => {
    for (
      const inner of [
        "internal/batch",
        "internal/execute",
        "store/pg/claim",
        "store/memory/rows",
        "store/pglite/folderLock",
        "store/within",
        "testing/difference",
        "testing/contract/expect",
        "index"
      ]
    ) {
      await expect(run(process.execPath, "--eval", `import("effect-sluice/${inner}")`)).rejects.toThrow(
        "ERR_PACKAGE_PATH_NOT_EXPORTED"
      )
    }
  })

  it("every module can be imported, and nothing happens then", async () => {
    const { exports } = JSON.parse(
      await readFile(path.join(project, "node_modules/effect-sluice/package.json"), "utf8")
    )
    const modules = Object.keys(exports)
      .filter((name) => name !== "." && name !== "./package.json")
      .map((name) => name.slice(2))
    expect(modules).toContain("CallRecorder")
    const imports = modules.map((name) => `await import("effect-sluice/${name}")`).join("\n")
    // a timer, a socket or a listener that was left behind would be named here, or keep the process from ending
    await mkdir(path.join(project, "quiet"), { recursive: true })
    await write(
      "quiet/main.ts",
      `const before = process.eventNames().length\n${imports}\n` +
        `console.log(JSON.stringify({ events: process.eventNames().length - before, ` +
        `resources: process.getActiveResourcesInfo().filter((name) => name !== "PipeWrap" && name !== "FSReqPromise") }))`
    )
    const { stderr, stdout } = await run(process.execPath, "quiet/main.ts")
    expect({ ...JSON.parse(stdout), stderr }).toEqual({ events: 0, resources: [], stderr: "" })
  }, 60_000)
})
