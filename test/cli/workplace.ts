/**
 * A user's working directory, in which the command is run as a process.
 */
import * as Schema from "effect/Schema"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"

const root = path.resolve(import.meta.dirname, "../..")
const folders: Array<string> = []

/** Removes the directories. */
export const cleanUp = (): void => {
  for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true })
}

/** A working directory with handlers of its own, and a way to run the command in it. */
export const workplace = (url: string | undefined) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-cli-"))
  folders.push(folder)
  fs.mkdirSync(path.join(folder, "persist"))
  const start = (...args: ReadonlyArray<string>) => {
    const child = spawn(process.execPath, ["--conditions=sluice-source", path.join(root, "src/cli/main.ts"), ...args], {
      cwd: folder,
      env: { ...process.env, DATABASE_URL: url ?? "", ...(url === undefined ? { DATABASE_URL: undefined } : {}) }
    })
    const output = { stdout: "", stderr: "" }
    child.stdout.setEncoding("utf8").on("data", (text: string) => output.stdout += text)
    child.stderr.setEncoding("utf8").on("data", (text: string) => output.stderr += text)
    const ended = new Promise<{ status: number | null; stdout: string; stderr: string }>((resolve) =>
      child.on("close", (status) => resolve({ status, ...output }))
    )
    return { child, ended, output }
  }
  const sluice = (...args: ReadonlyArray<string>) => start(...args).ended
  /** Its answer as JSON, which has the shape that was promised. */
  const asked = async <S extends Schema.Codec<any, any>>(
    schema: S,
    ...args: ReadonlyArray<string>
  ): Promise<S["Type"]> => {
    const { stdout } = await sluice(...args, "--json")
    return Schema.decodeUnknownSync(Schema.toCodecJson(schema))(JSON.parse(stdout))
  }
  /**
   * Writes the handler module. The broken one refuses calls of bed 2; the slow one writes the file `began` and takes two
   * seconds.
   */
  const handler = (how: "good" | "broken" | "slow") =>
    fs.writeFileSync(
      path.join(folder, "persist/notes.ts"),
      `import { DomainObject, HandlerPlugin, Output, Rejected } from "${root}/src/index.ts"
import * as Effect from "${root}/node_modules/effect/dist/Effect.js"
import * as Schema from "${root}/node_modules/effect/dist/Schema.js"
import { SqlClient } from "${root}/node_modules/effect/dist/sql/SqlClient.js"
import { writeFileSync } from "node:fs"

class Note extends Output.make("schemas.clinic.ward.note", { version: 1, schema: Schema.Struct({ text: Schema.String }) }) {}

export const notes = HandlerPlugin.layer("clinic", Note, Effect.map(SqlClient, (sql) =>
  ({ call, output }) => Effect.gen(function*() {
    ${how === "slow" ? `writeFileSync("began", ""); yield* Effect.sleep("2 seconds")` : ""}
    if (${how === "broken"} && call.callId === "call-2") return yield* new Rejected({ reason: "bed 2 is being moved" })
    yield* sql\`create table if not exists note (call_id text primary key, content text not null)\`
    yield* sql\`insert into note values (\${call.callId}, \${output.text})\`
    return DomainObject.make("clinic.Note", call.callId)
  })))
`
    )
  const calls = (count: number, from = 1) =>
    Array.from({ length: count }, (_, n) =>
      JSON.stringify({
        callId: `call-${from + n}`,
        namespace: "clinic",
        service: "services.clinic.ward.take-notes",
        outputs: [{ schema: "schemas.clinic.ward.note", version: 1, data: { text: `note ${from + n}` } }]
      })).join("\n") + "\n"
  const file = (name: string, content: string) => {
    fs.writeFileSync(path.join(folder, name), content)
    return name
  }
  return { folder, start, sluice, asked, handler, calls, file }
}
