/**
 * A process that opens the embedded database of a folder, writes a row, and stays until it is told to go.
 */
import * as Pglite from "effect-sluice/store/Pglite"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"

const [folder = ""] = process.argv.slice(2)
const say = (line: string) => process.stdout.write(`${line}\n`)
const told = new Promise<void>((resolve) => process.stdin.once("data", () => resolve()))
const program = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table if not exists visit (pid int)`
  yield* sql`insert into visit values (${process.pid})`
  say("open")
  yield* Effect.promise(() => told)
})
const exit = await Effect.runPromise(Effect.result(Effect.provide(program, Pglite.layer({ dataDir: folder }))))
if (exit._tag === "Failure") say(exit.failure._tag)
process.exit()
