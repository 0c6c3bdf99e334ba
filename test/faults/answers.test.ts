/**
 * The story of paid answers is broken before and after each of its statements: the connection is cut, or the server's
 * process or the program's is ended. Told again, it has the same result: each answer is recorded and counted once, and what
 * is erased stays erased.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import type * as SqlClient from "effect/sql/SqlClient"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { client } from "../support/Postgres.ts"
import { application, picture, prepare, recover, reset, story } from "./answersStory.ts"
import {
  type Breakable,
  breakable,
  type Breakage,
  cut,
  killed,
  sidesOf,
  type Statement,
  terminate
} from "./breakable.ts"

let database: Breakable
let clean: unknown
let statements: ReadonlyArray<Statement> = []

/** The application past the proxy. */
let past: ManagedRuntime.ManagedRuntime<Layer.Success<typeof application> | SqlClient.SqlClient, unknown>

/** The story through the proxy. It may fail. */
const tell = () => Effect.runPromiseExit(Effect.provide(story, application.pipe(Layer.provideMerge(database.client))))

const writes = ({ text }: Statement): boolean => /^commit|\b(insert|update|delete)\b/i.test(text)

const breakages = {
  "the connection is cut at both ends": { run: tell, strike: cut },
  "the server's process is terminated": { run: tell, strike: terminate },
  "the program is killed": killed("storyteller.ts")
}

/** The tables after the story was told again. */
const recovered = () => past.runPromise(Effect.andThen(recover, picture))

beforeAll(async () => {
  database = await breakable()
  await database.direct(prepare)
  past = ManagedRuntime.make(application.pipe(Layer.provideMerge(client(database.url, { maxConnections: 3 }))))
  await past.runPromise(reset)
  statements = await database.statementsOf(async () => expect(Exit.isSuccess(await tell())).toBe(true))
  clean = await recovered()
}, 60_000)
afterAll(async () => {
  await past.dispose()
  await database.close()
})

it("told undisturbed, it comes to what it is made for", () => {
  expect(clean).toMatchObject({
    findings: [
      { call_id: "list", code: "one" },
      { call_id: "list", code: "three" },
      { call_id: "rejected", code: "elbow" },
      { call_id: "run", code: "two" },
      { call_id: "unfit", code: "mended" }
    ],
    calls: [
      { call_id: "erased", erased: true, fact: "erased", outputs: null },
      { call_id: "list", status: "succeeded", fact: "list" },
      { call_id: "rejected", status: "succeeded", fact: "rejected", run_token: null },
      { call_id: "run", status: "succeeded", fact: "run" },
      { call_id: "unfit", status: "succeeded", fact: "unfit" }
    ],
    attempts: [
      { call_id: "rejected", outcome: "succeeded", tokens: "1000" },
      { call_id: "run", outcome: "invalid", text: "{", tokens: "10" },
      { call_id: "run", outcome: "succeeded", tokens: "10" },
      { call_id: "unfit", outcome: "invalid", tokens: "100" }
    ],
    usage: [{ calls: 5, invalid: 1, attempts: 4, tokens: 1123 }],
    ledger: [
      { call_id: "list" },
      { call_id: "list" },
      { call_id: "rejected" },
      { call_id: "run" },
      { call_id: "unfit" }
    ],
    dead: [{ call_id: "list", reason: "undecodable" }],
    erasures: [{ calls: 1, chunks: 1 }]
  })
})

describe.each(Object.keys(breakages) as Array<keyof typeof breakages>)("%s", (how) => {
  it("before and after every statement: it comes to the same in the end", async () => {
    // before its first run a program only looks at the database
    const begins = statements.findIndex(({ text }) => text.startsWith("insert into \"sluice\".service_call"))
    expect(begins).toBeGreaterThan(0)
    for (const [index, statement] of statements.entries()) {
      if (index < begins) continue
      for (const side of sidesOf(statement)) {
        // a session that is terminated before its statement is one whose connection is cut
        if (how === "the server's process is terminated" && side === "before") continue
        // to a program that is killed, after one statement is before the next, and in a transaction each is as its commit;
        // and what only reads changes nothing
        if (
          how === "the program is killed" &&
          (statement.open || (side === "after" ? index + 1 < statements.length : !writes(statement)))
        ) {
          continue
        }
        const name = `${side} statement ${index + 1}: ${statement.text}`
        await past.runPromise(reset)
        const { run, strike }: Breakage = breakages[how]
        await database.breakAt({ number: index + 1, side, name }, strike, () => run(database))
        expect(await recovered(), name).toEqual(clean)
      }
    }
  }, 600_000)
})
