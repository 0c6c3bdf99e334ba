/**
 * The story of paid answers is cut before and after each of its statements: the connection at both ends, the server's process, the
 * program's process. Told again, it comes to the same: no answer is on record twice or lost, none is counted twice, what is
 * erased stays erased.
 */
import * as Settings from "effect-sluice/Settings"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { spawn } from "node:child_process"
import path from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { bundle } from "../support/bundle.ts"
import { client, freshDatabase } from "../support/Postgres.ts"
import { application, picture, prepare, recover, reset, story } from "./answersStory.ts"
import { type Passing, type Proxy, type Side, startProxy } from "./proxy.ts"

const scope = Scope.makeUnsafe()
let proxied = ""
let proxy: Proxy
let clean: unknown
let statements: ReadonlyArray<string> = []

let past: ManagedRuntime.ManagedRuntime<Layer.Success<typeof application> | SqlClient.SqlClient, unknown>

/** The story through the proxy, to whatever end it comes. */
const tell = () =>
  Effect.runPromiseExit(
    Effect.provide(story, application.pipe(Layer.provideMerge(client(proxied, { maxConnections: 2 }))))
  )

const writes = (statement: string): boolean => /^commit|\b(insert|update|delete)\b/i.test(statement)

let kill: () => void = () => undefined
/** The program that is killed. */
let storyteller = ""

/** Ways to break something at a statement, and what then goes on. */
const breakages = {
  "the connection is cut at both ends": { run: tell, strike: () => Promise.resolve("cut" as const) },
  "the server's process is terminated": {
    run: tell,
    strike: async ({ backend }: Passing) => {
      await past.runPromise(SqlClient.SqlClient.use((sql) => sql`select pg_terminate_backend(${backend}, 5000)`))
      return "pass" as const
    }
  },
  "the program is killed": {
    run: () =>
      new Promise<void>((resolve) => {
        const child = spawn(process.execPath, [storyteller, proxied], { stdio: "ignore" })
        kill = () => child.kill("SIGKILL")
        child.on("exit", () => resolve())
      }),
    strike: () => {
      kill()
      return Promise.resolve("cut" as const)
    }
  }
}

/** Breaks at a statement of the story, lets it be told again, and gives back what is in the tables. */
const broken = async (how: keyof typeof breakages, number: number, side: Side) => {
  await past.runPromise(reset)
  let struck = false
  proxy.watch((passing) => {
    if (struck || passing.number !== number || passing.side !== side) return "pass"
    struck = true
    return breakages[how].strike(passing)
  })
  await breakages[how].run()
  expect(struck).toBe(true)
  return await past.runPromise(Effect.andThen(recover, picture))
}

beforeAll(async () => {
  const url = await Effect.runPromise(Scope.provide(freshDatabase(), scope))
  const { hostname, pathname, port, username } = new URL(url)
  proxy = await startProxy(Number(port))
  proxied = `postgres://${username}@${hostname}:${proxy.port}${pathname}`
  storyteller = await bundle(path.join(import.meta.dirname, "storyteller.ts"))
  const own = client(url, { maxConnections: 3 })
  await Effect.runPromise(Effect.provide(prepare, Layer.provideMerge(Settings.layer(), own)))
  past = ManagedRuntime.make(application.pipe(Layer.provideMerge(own)))
  await past.runPromise(reset)
  const seen: Array<string> = []
  proxy.watch(({ side, text }) => {
    if (side === "before") seen.push(text.replaceAll(/\s+/g, " ").trim())
    return "pass"
  })
  expect(Exit.isSuccess(await tell())).toBe(true)
  statements = seen
  clean = await past.runPromise(Effect.andThen(recover, picture))
}, 60_000)
afterAll(async () => {
  await past.dispose()
  await proxy.close()
  await Effect.runPromise(Scope.close(scope, Exit.void))
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
    const begins = statements.findIndex((text) => text.startsWith("insert into \"sluice\".service_call"))
    expect(begins).toBeGreaterThan(0)
    for (const [index, statement] of statements.entries()) {
      if (index < begins) continue
      for (const side of ["before", "after"] as const) {
        // a session that is terminated before its statement is one whose connection is cut
        if (how === "the server's process is terminated" && side === "before") continue
        // to a program that is killed, after one statement is before the next; and what only reads changes nothing
        if (
          how === "the program is killed" && (side === "after" ? index + 1 < statements.length : !writes(statement))
        ) {
          continue
        }
        const found = await broken(how, index + 1, side)
        expect(found, `${side} statement ${index + 1}: ${statement}`).toEqual(clean)
      }
    }
  }, 600_000)
})
