/**
 * `sluice init`: makes a first working place of a folder: the tables, a place for settings, a handler, and a recorded call.
 */
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import path from "node:path"
import * as HandlerDiscovery from "../../HandlerDiscovery.ts"
import * as Migrations from "../../store/Migrations.ts"
import * as configFile from "../configFile.ts"
import * as Database from "../Database.ts"
import { told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"

/** What `sluice init --json` prints. */
export const Made = Schema.Struct({
  /** The files that were written. */
  files: Schema.Array(Schema.String),
  /** The migrations that were applied. */
  migrations: Schema.Array(Schema.String)
})

const settings = `// Settings by their names, below those of the environment. All there are: docs/operations.md
export default {
  // DATABASE_URL: "postgres://user@host:5432/database",
  SLUICE_BATCH_SIZE: 100
}
`

const handler = `import { DomainObject, HandlerPlugin, Output } from "effect-sluice"
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"

// What the LLM answers: a name that is written down, a version, a schema.
class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String })
}) {}

// How an answer becomes rows. Called for one answer, and runs in the transaction of its batch.
export const patientReply = HandlerPlugin.layer("chatlab", PatientReply, Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql\`create table if not exists message (id serial primary key, call_id text not null, content text not null)\`
  return Effect.fn("PatientReply.persist")(function*({ call, output }) {
    const rows = yield* sql<{ id: number }>\`
      insert into message (call_id, content) values (\${call.callId}, \${output.text}) returning id\`
    return rows.map((row) => DomainObject.make("chatlab.Message", row.id))
  })
}))
`

const call = {
  callId: "call-1",
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  outputs: [{
    schema: "schemas.chatlab.standardized_patient.patient-reply",
    version: 1,
    data: { text: "It hurts on the inside." }
  }]
}

const write = Effect.fnUntraced(function*(file: string, content: string) {
  yield* Effect.tryPromise(async () => {
    await fs.mkdir(path.dirname(file), { recursive: true })
    // what somebody else wrote meanwhile is theirs
    await fs.writeFile(file, content, { flag: "wx" })
  })
  return file
})

/** The nearest `package.json`, as Node looks for it. */
const packageJson = (folder: string): string | undefined => {
  const file = path.join(folder, "package.json")
  if (existsSync(file)) return file
  const above = path.dirname(folder)
  return above === folder ? undefined : packageJson(above)
}

/** Where a project is not one of modules, `.ts` would not be one: `npm init` makes such projects. */
const ending = Effect.tryPromise(async () => {
  const file = packageJson(path.resolve("."))
  const text = file === undefined ? "" : await fs.readFile(file, "utf8")
  return /"type"\s*:\s*"module"/.test(text) ? "ts" : "mts"
})

/** Writes what is not there. Who has handlers needs no first one, and no call for it. */
const files = Effect.gen(function*() {
  const ts = yield* ending
  const made: Array<string> = []
  if (!configFile.names.some((name) => existsSync(name))) made.push(yield* write(`sluice.config.${ts}`, settings))
  if ((yield* HandlerDiscovery.find({})).length > 0) return made
  made.push(yield* write(`persist/patientReply.${ts}`, handler))
  if (!existsSync("calls.jsonl")) made.push(yield* write("calls.jsonl", `${JSON.stringify(call)}\n`))
  return made
})

/** The command. */
export const init = Command.make("init", options.common, ({ url, ...given }) =>
  Effect.gen(function*() {
    const json = yield* options.switchOf(given.json, "SLUICE_JSON")
    const made = yield* files
    const applied = yield* Effect.provide(Migrations.run, Database.layer(url, { create: true }))
    const migrations = applied.map(([id, name]) => `${String(id).padStart(4, "0")} ${name}`)
    if (json) return yield* print.json(Made, { files: made, migrations })
    for (const file of made) yield* Console.log(`wrote ${file}`)
    yield* Console.log(migrations.length === 0 ? "the tables were there" : "made the tables")
    if (made.includes("calls.jsonl")) {
      yield* Console.log("next: sluice record calls.jsonl, sluice drain --until-empty, sluice show call-1")
    }
  }).pipe(told)).pipe(
    Command.withDescription(
      "Make a first working place here: the tables, sluice.config.ts, and, where there is no handler, one with a call to try"
    ),
    Command.withShortDescription("Make a first working place here: tables, settings, a handler"),
    Command.withExamples([{ command: "sluice init", description: "On an embedded database, in ./.sluice" }])
  )
