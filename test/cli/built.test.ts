/**
 * The built command in a user's project: handlers in TypeScript and in JavaScript, which import the package by its name.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { promisify } from "node:util"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { freshDatabase } from "../support/Postgres.ts"

const exec = promisify(execFile)
const root = path.resolve(import.meta.dirname, "../..")
const scope = Scope.makeUnsafe()
let project = ""

const write = (name: string, content: string) => {
  fs.mkdirSync(path.dirname(path.join(project, name)), { recursive: true })
  fs.writeFileSync(path.join(project, name), content)
}

const handler = (name: string) =>
  `import { DomainObject, HandlerPlugin, Output } from "effect-sluice"
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"

class Line extends Output.make("schemas.clinic.ward.${name}", { version: 1, schema: Schema.Struct({ text: Schema.String }) }) {}

export const ${name} = HandlerPlugin.layer("clinic", Line, Effect.map(SqlClient.SqlClient, (sql) =>
  ({ call, output }) => Effect.gen(function*() {
    yield* sql\`create table if not exists ward (kind text, content text)\`
    yield* sql\`insert into ward values (\${"${name}"}, \${output.text})\`
    return DomainObject.make("clinic.Ward", \`${name}-\${call.callId}\`)
  })))
`

const calls = ["note", "lab"].map((name) =>
  JSON.stringify({
    callId: `call-${name}`,
    namespace: "clinic",
    service: "services.clinic.ward.take-notes",
    outputs: [{ schema: `schemas.clinic.ward.${name}`, version: 1, data: { text: `a ${name}` } }]
  })
).join("\n")

beforeAll(async () => {
  project = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "sluice-built-")))
  const installed = path.join(project, "node_modules/effect-sluice")
  fs.mkdirSync(installed, { recursive: true })
  const compiler = path.join(root, "node_modules/typescript/bin/tsc")
  const flags = ["--outDir", path.join(installed, "dist"), "--declaration", "false", "--declarationMap", "false"]
  await exec(process.execPath, [compiler, "-p", "tsconfig.build.json", ...flags], { cwd: root })
  fs.copyFileSync(path.join(root, "package.json"), path.join(installed, "package.json"))
  fs.cpSync(path.join(root, "sql"), path.join(installed, "sql"), { recursive: true })
  for (const name of ["effect", "@effect", "@electric-sql"]) {
    fs.symlinkSync(path.join(root, "node_modules", name), path.join(project, "node_modules", name))
  }
  write("package.json", JSON.stringify({ name: "ward", private: true, type: "module" }))
  write("src/notes/persist/note.ts", handler("note").replace("({ call, output })", "({ call, output }: any)"))
  write("lib/labs/persist/lab.js", handler("lab"))
  write("calls.jsonl", calls)
})
afterAll(async () => {
  fs.rmSync(project, { recursive: true, force: true })
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

describe.each(["embedded", "postgres"])("the built command, on %s", { timeout: 180_000 }, (store) => {
  it("finds handlers of both kinds, and persists what they serve", async () => {
    const url = store === "embedded" ? [] : ["--url", await Effect.runPromise(Scope.provide(freshDatabase(), scope))]
    const { DATABASE_URL: _, ...env } = process.env
    const sluice = (...args: ReadonlyArray<string>) =>
      exec(process.execPath, ["node_modules/effect-sluice/dist/cli/main.js", ...args, ...url], { cwd: project, env })
    expect((await sluice("migrate")).stdout).toContain("0001 tables: applied now")
    expect((await sluice("record", "calls.jsonl")).stdout).toBe("2 recorded, 0 known already, 0 refused\n")
    const { stderr, stdout } = await sluice("drain", "--until-empty")
    expect(stderr).toContain(
      "handlers: lib/labs/persist/lab.js: clinic/lab\n" +
        "handlers: src/notes/persist/note.ts: clinic/note\n"
    )
    expect(stdout).toBe("2 claimed: 2 persisted\n")
    expect((await sluice("show", "clinic.Ward:lab-call-lab")).stdout).toContain("call call-lab of clinic")
    await expect(sluice("doctor")).resolves.toMatchObject({ stdout: expect.stringContaining("ok  server: Postgres") })
  })
})
