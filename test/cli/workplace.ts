/**
 * A user's working directory, in which the installed command is run as a process.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import { createServer } from "node:net"
import path from "node:path"
import { atEndOfFile } from "../support/endOfFile.ts"
import { freePort as portNumber } from "../support/freePort.ts"
import { installed } from "../support/installed.ts"
import { freshDatabase, migratedDatabase } from "../support/Postgres.ts"
import * as waiting from "../support/until.ts"
import { runIn } from "./inProcess.ts"

/** The processes that a failed test would leave, and what each has said. */
const running = new Map<ChildProcess, { readonly command: string; readonly stdout: string; readonly stderr: string }>()
const killAll = () => {
  for (const child of running.keys()) child.kill("SIGKILL")
  running.clear()
}

const untilEndOfFile = async (database: ReturnType<typeof freshDatabase>): Promise<string> => {
  const scope = Scope.makeUnsafe()
  atEndOfFile(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return await Effect.runPromise(Scope.provide(database, scope))
}

/** The address of a new, empty database on the run's server, which is dropped at the end of the test file. */
export const newDatabase = (): Promise<string> => untilEndOfFile(freshDatabase())

/** The same with Sluice's tables. */
export const newMigrated = (): Promise<string> => untilEndOfFile(migratedDatabase())

/** Asks until the answer is as awaited. Who waits in vain is told what the file's processes have said. */
export const until = async <A>(ask: () => Promise<A> | A, is?: (answer: A) => boolean): Promise<A> => {
  try {
    return await waiting.until(ask, is)
  } catch (error) {
    const said = [...running].map(([{ exitCode, signalCode }, { command, stderr, stdout }]) =>
      `--- ${command}: ${exitCode ?? signalCode ?? "running"}\n${stdout.slice(-2000)}${stderr.slice(-4000)}`
    )
    throw new Error([error instanceof Error ? error.message : String(error), ...said].join("\n"), { cause: error })
  }
}

/** A port that somebody listens on. */
export const listening = () =>
  new Promise<{ readonly port: number; readonly close: () => Promise<void> }>((resolve) => {
    const server = createServer().listen(0, () => {
      const address = server.address()
      resolve({
        port: address !== null && typeof address === "object" ? address.port : 0,
        close: () => new Promise((done) => server.close(() => done()))
      })
    })
  })

/** A port that is free, as a flag takes it. */
export const freePort = async (): Promise<string> => String(await portNumber())

/** What a process came to. */
export interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** On which output a text is awaited, and how often. */
interface SaysOptions {
  readonly on?: "stdout" | "stderr"
  readonly times?: number
}

/** A process that only begins and ends would else spend an eighth of its time on tidying up. */
const roomy = ["--max-semi-space-size=64", "--min-semi-space-size=32"]

type Variables = Readonly<Record<string, string | undefined>>

/** This process's environment without what would set the command. */
const plain: Variables = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(DATABASE_URL$|SLUICE_|OTEL_|NODE_OPTIONS$)/.test(name))
)

const makeFolder = async () => {
  const places = path.join(await installed(), "places")
  fs.mkdirSync(places, { recursive: true })
  return fs.mkdtempSync(path.join(places, "ward-"))
}

/** A working directory, and a way to run the command in it: on the embedded database, or a server's. */
export const workplace = async (url?: string, variables: Variables = {}) => {
  const folder = await makeFolder()
  const bin = path.join(await installed(), "node_modules/effect-sluice/dist/cli/sluice.js")
  const env = { ...plain, ...(url === undefined ? {} : { DATABASE_URL: url }), ...variables }

  const run = (command: string, args: ReadonlyArray<string>) => {
    const child = spawn(command, args, { cwd: folder, env })
    const output = {
      command: args.slice(args.findIndex((arg) => !arg.startsWith("-")) + 1).join(" "),
      stdout: "",
      stderr: ""
    }
    running.set(child, output)
    atEndOfFile(killAll)
    child.stdout.setEncoding("utf8").on("data", (text: string) => output.stdout += text)
    child.stderr.setEncoding("utf8").on("data", (text: string) => output.stderr += text)
    let over = false
    const ended = new Promise<Ended>((resolve) =>
      child.on("close", (status) => {
        over = true
        resolve({ status, stdout: output.stdout, stderr: output.stderr })
      })
    )
    /** Waits for a text on one of its outputs, as often as that. A process that has ended says no more. */
    const says = async (text: string, { on = "stderr", times = 1 }: SaysOptions = {}): Promise<void> => {
      const has = () => output[on].split(text).length > times
      await until(() => over || has())
      if (!has()) {
        throw new Error(`${output.command} ended with ${child.exitCode} before it said "${text}": ${output.stderr}`)
      }
    }
    return { child, ended, output, says }
  }
  const start = (...args: ReadonlyArray<string>) => run(process.execPath, [...roomy, bin, ...args])
  const sluice = (...args: ReadonlyArray<string>) => start(...args).ended
  /**
   * The same in this process, which takes no time to start, unless the environment tells the command something that it does
   * not only look by.
   */
  const inside = (...args: ReadonlyArray<string>): Promise<Ended> =>
    Object.keys(variables).length > 0 && args[0] !== "status"
      ? sluice(...args)
      : runIn(folder, ...args, ...url === undefined || args[0] === "grants" ? [] : ["--url", url])
  /** Its answer as JSON, one document, which has the shape that was promised. */
  const asked = async <S extends Schema.Codec<any, any>>(
    schema: S,
    ...args: ReadonlyArray<string>
  ): Promise<S["Type"]> => {
    const { stderr, stdout } = await (args[0] === "drain" || args[0] === "handlers" ? sluice : inside)(
      ...args,
      "--json"
    )
    try {
      return Schema.decodeUnknownSync(Schema.toCodecJson(schema))(JSON.parse(stdout))
    } catch (error) {
      throw new Error(`sluice ${args.join(" ")} printed ${stdout}\n${stderr}`, { cause: error })
    }
  }
  const file = (name: string, content: string) => {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true })
    fs.writeFileSync(path.join(folder, name), content)
    return name
  }
  return { folder, run, start, sluice, inside, asked, file, command: [process.execPath, bin] as const }
}

/** A working directory. */
export type Workplace = Awaited<ReturnType<typeof workplace>>

/**
 * A handler of notes: a good one; one that refuses the call `call-2`; one that says on stderr that it began and waits until
 * there is a file `go`; one that does so for ever.
 */
export const noteHandler = (how: "good" | "broken" | "waiting" | "endless"): string =>
  `import { DomainObject, Handler, HandlerPlugin, Output } from "effect-sluice"
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { existsSync } from "node:fs"

class Note extends Output.make("schemas.clinic.ward.note", { version: 1, schema: Schema.Struct({ text: Schema.String }) }) {}

const trouble = {
  good: () => Effect.void,
  broken: (callId) => callId === "call-2" ? new Handler.HandlerRejected({ reason: "bed 2 was moved" }) : Effect.void,
  waiting: () => Effect.repeat(Effect.delay(Effect.sync(() => existsSync("go")), 20), { until: (go) => go }),
  endless: () => Effect.never
}["${how}"] as (callId: string) => Effect.Effect<unknown, Handler.HandlerRejected>

const table = SqlClient.SqlClient.use((sql) => sql\`create table if not exists note (call_id text primary key, content text not null)\`)

export const notes = HandlerPlugin.layer("clinic", Note, Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  // before any run: in one it would be a statement that its mates see. Two processes may make it at once
  yield* Effect.retry(table, { times: 3 })
  return ({ call, output }) => Effect.gen(function*() {
    if ("${how}" !== "good") console.error("begun")
    yield* trouble(call.callId)
    yield* sql\`insert into note values (\${call.callId}, \${output.text})\`
    return DomainObject.make("clinic.Note", call.callId)
  })
}))
`

/** Recorded calls with a note each, as lines of a file. */
export const notes = (count: number, from = 1): string =>
  Array.from({ length: count }, (_, n) =>
    JSON.stringify({
      callId: `call-${from + n}`,
      namespace: "clinic",
      service: "services.clinic.ward.take-notes",
      outputs: [{ schema: "schemas.clinic.ward.note", version: 1, data: { text: `note ${from + n}` } }]
    })).join("\n") + "\n"

/** A working directory with a handler of notes, on a database with Sluice's tables. */
export const ward = async (
  how: Parameters<typeof noteHandler>[0],
  { url, variables = {} }: { readonly url?: string | undefined; readonly variables?: Variables } = {}
) => {
  const place = await workplace(url ?? await newMigrated(), variables)
  const handler = (how: Parameters<typeof noteHandler>[0]) => place.file("persist/notes.ts", noteHandler(how))
  handler(how)
  const record = (count: number, from = 1) => place.inside("record", place.file("calls.jsonl", notes(count, from)))
  return { ...place, handler, record }
}
