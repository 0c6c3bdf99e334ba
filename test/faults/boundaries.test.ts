/**
 * A cycle, and the one that tries again what failed in it, is cut before and after each of its statements: the connection at both ends, the server's process, the worker's
 * process. Whatever was cut, once the system has recovered the tables are those of an undisturbed run.
 */
import { Drain } from "effect-sluice"
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
import { type Passing, type Proxy, type Side, startProxy } from "./proxy.ts"
import { drain, dueAgain, picture, prepare, recover, reset } from "./ward.ts"

const scope = Scope.makeUnsafe()
let url = ""
let proxied = ""
let proxy: Proxy
let clean: unknown
/** The statements of each cycle. */
const statements = { first: new Array<string>(), second: new Array<string>() }
type Cycle = keyof typeof statements

/** Past the proxy: what the test itself does is not cut. One client for all of it, whose statements are prepared once. */
let past: ManagedRuntime.ManagedRuntime<SqlClient.SqlClient | Settings.Settings, unknown>
const direct = <A, E>(program: Effect.Effect<A, E, SqlClient.SqlClient | Settings.Settings>) => past.runPromise(program)

/** One cycle through the proxy, to whatever end it comes. */
const cycle = () =>
  // a start that is cut fails, and is made again
  Effect.runPromiseExit(
    Effect.provide(
      Effect.flatMap(Drain.Drain, (drain) => drain.cycle),
      drain.pipe(Layer.provide(client(proxied, { maxConnections: 2 })))
    )
  )

const terminate = (backend: number) =>
  direct(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_terminate_backend(${backend}, 5000)`))

/** Ways to break something at a statement, and what then goes on. */
const breakages = {
  "the connection is cut at both ends": {
    run: cycle,
    strike: () => Promise.resolve("cut" as const)
  },
  "the server's process is terminated": {
    run: cycle,
    strike: async ({ backend }: Passing) => {
      await terminate(backend)
      return "pass" as const
    }
  },
  "the worker is killed": {
    // one cycle in a process of its own
    run: () =>
      new Promise<void>((resolve) => {
        const child = spawn(process.execPath, [worker, proxied], { stdio: "ignore" })
        kill = () => child.kill("SIGKILL")
        child.on("exit", () => resolve())
      }),
    strike: () => {
      kill()
      return Promise.resolve("cut" as const)
    }
  }
}
let kill: () => void = () => undefined
/** The program of a worker that is killed. */
let worker = ""

/** Makes everything ready for a cycle. The one before it is not disturbed. */
const begin = {
  first: () => direct(reset),
  second: async () => {
    await direct(reset)
    await direct(Effect.provide(Effect.flatMap(Drain.Drain, (drain) => drain.cycle), drain))
    await direct(dueAgain)
  }
}

/** Breaks at statement `number` of a cycle, lets the system recover, and gives back what is in the tables. */
const broken = async (how: keyof typeof breakages, which: Cycle, number: number, side: Side) => {
  await begin[which]()
  let struck = false
  proxy.watch((passing) => {
    if (struck || passing.number !== number || passing.side !== side) return "pass"
    struck = true
    return breakages[how].strike(passing)
  })
  await breakages[how].run()
  expect(struck).toBe(true)
  return await direct(Effect.andThen(Effect.provide(recover, drain), picture))
}

beforeAll(async () => {
  url = await Effect.runPromise(Scope.provide(freshDatabase(), scope))
  const { hostname, pathname, port, username } = new URL(url)
  proxy = await startProxy(Number(port))
  proxied = `postgres://${username}@${hostname}:${proxy.port}${pathname}`
  past = ManagedRuntime.make(client(url, { maxConnections: 3 }))
  worker = await bundle(path.join(import.meta.dirname, "worker.ts"))
  await direct(prepare)
  for (const which of ["first", "second"] as const) {
    await begin[which]()
    proxy.watch(({ side, text }) => {
      if (side === "before") statements[which].push(text.replaceAll(/\s+/g, " ").trim())
      return "pass"
    })
    await cycle()
  }
  clean = await direct(Effect.andThen(Effect.provide(recover, drain), picture))
})
afterAll(async () => {
  await past.dispose()
  await proxy.close()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

describe("an undisturbed cycle", () => {
  it("does what the batch is made for", () => {
    expect(clean).toEqual({
      notes: [1, 2, 5, 6, 7].map((n) => ({ call_id: `call-${n}`, content: `note ${n}` })),
      ordered: [{ call_id: "call-2" }, { call_id: "call-6" }],
      ledger: [1, 2, 5, 6, 7].map((n) => ({ call_id: `call-${n}`, handler: "clinic/note", objects: [`call-${n}`] })),
      queue: [],
      dead: [
        { call_id: "call-3", reason: "exhausted", attempts: 2 },
        { call_id: "call-4", reason: "undecodable", attempts: 0 }
      ],
      failures: [
        { call_id: "call-3", kind: "failed", attempt: 1 },
        { call_id: "call-3", kind: "failed", attempt: 2 },
        { call_id: "call-4", kind: "undecodable", attempt: 0 }
      ]
    })
  })

  it("has transactions in it, and so has the one after it", () => {
    const count = (which: Cycle, word: RegExp) => statements[which].filter((text) => word.test(text)).length
    expect(count("first", /^commit/i)).toBeGreaterThan(0)
    expect(count("first", /^rollback/i)).toBeGreaterThan(0)
    // the one that fails again, alone
    expect(count("second", /^rollback/i)).toBeGreaterThan(0)
  })
})

describe.each(Object.keys(breakages) as Array<keyof typeof breakages>)("%s", (how) => {
  it.each(["first", "second"] as const)(
    "before and after every statement of the %s cycle: the tables are the same in the end",
    async (which) => {
      // before its first beat a worker only looks at the database
      const begins = statements[which].findIndex((text) => text.startsWith("with serves "))
      expect(begins).toBeGreaterThan(0)
      for (const [index, statement] of statements[which].entries()) {
        if (index < begins) continue
        for (const side of ["before", "after"] as const) {
          // to a worker that is killed, after one statement is before the next
          if (how === "the worker is killed" && side === "after" && index + 1 < statements[which].length) continue
          const found = await broken(how, which, index + 1, side)
          expect(found, `${side} statement ${index + 1}: ${statement}`).toEqual(clean)
        }
      }
    },
    600_000
  )
})
