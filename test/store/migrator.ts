/**
 * A process that brings a database's tables up to date when it is told to, and says what it applied.
 */
import * as Migrations from "effect-sluice/store/Migrations"
import * as Effect from "effect/Effect"
import { once } from "node:events"
import { client } from "../support/client.ts"

const [url = ""] = process.argv.slice(2)
process.stdout.write("ready\n")
await once(process.stdin, "data")
const exit = await Effect.runPromise(Effect.result(Effect.provide(Migrations.run, client(url))))
process.stdout.write(`${exit._tag === "Success" ? JSON.stringify(exit.success) : String(exit.failure)}\n`)
process.exit()
