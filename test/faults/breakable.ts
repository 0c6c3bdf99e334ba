/**
 * A database behind a proxy, and the ways to break a program at one of its statements.
 */
import type * as Settings from "effect-sluice/Settings"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { type ChildProcess, spawn } from "node:child_process"
import path from "node:path"
import { expect } from "vitest"
import { bundle } from "../support/bundle.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"
import { type Passing, type Side, startProxy, type Verdict } from "./proxy.ts"

/** What happens at a statement. */
export type Strike = (passing: Passing, database: Breakable) => Verdict | Promise<Verdict>

/** What runs, and how it is broken at a statement. */
export interface Breakage {
  readonly run: (database: Breakable) => Promise<unknown>
  readonly strike: Strike
}

/** A statement that a program sends, and what is left of it when its connection ends right after it. */
export interface Statement {
  /** On one line. */
  readonly text: string
  /** Whether its transaction is still open then: nothing is left. */
  readonly open: boolean
}

/**
 * The sides of a statement on which a break leaves different tables. In a transaction that is still open they are the same:
 * before the statement or after it, all is undone, and the program has had no answer.
 */
export const sidesOf = ({ open }: Statement): ReadonlyArray<Side> => open ? ["before"] : ["before", "after"]

/** How many runs may end before the place at which they are to be broken. */
const mostRuns = 10

/** A database that programs reach through a proxy. */
export interface Breakable {
  /** Its address past the proxy. */
  readonly url: string
  /** Its address through the proxy. */
  readonly proxied: string
  /** The client through the proxy, of the program that is broken. */
  readonly client: ReturnType<typeof client>
  /** Runs what the test itself does, past the proxy. One client for all of it, so its statements are prepared once. */
  readonly direct: <A, E>(program: Effect.Effect<A, E, SqlClient.SqlClient | Settings.Settings>) => Promise<A>
  /** The statements that a program sends when nothing breaks it. */
  readonly statementsOf: (run: () => Promise<unknown>) => Promise<ReadonlyArray<Statement>>
  /**
   * Runs a program and breaks it at its statement of this number. A worker counts the ledger beside its cycle, and sends
   * fewer statements if the worker before it has begun that count. A run that ends before the place is made again, after
   * `again` has made everything ready. Fails if no run comes so far.
   */
  readonly breakAt: <A>(
    place: { readonly number: number; readonly side: Side; readonly name: string },
    strike: Strike,
    run: () => Promise<A>,
    again?: () => Promise<unknown>
  ) => Promise<A>
  readonly close: () => Promise<void>
}

/** A new, empty database and its proxy. */
export const breakable = async (): Promise<Breakable> => {
  const scope = Scope.makeUnsafe()
  const url = await Effect.runPromise(Scope.provide(migratedDatabase(), scope))
  const { hostname, pathname, port, username } = new URL(url)
  const proxy = await startProxy(Number(port))
  const proxied = `postgres://${username}@${hostname}:${proxy.port}${pathname}`
  const past = ManagedRuntime.make(client(url, { maxConnections: 3 }))
  const database: Breakable = {
    url,
    proxied,
    client: client(proxied, { maxConnections: 2 }),
    direct: (program) => past.runPromise(program),
    statementsOf: async (run) => {
      const statements: Array<Statement> = []
      proxy.watch(({ number, open, side, text }) => {
        // one that is not answered counts as any
        statements[number - 1] = { text: text.replaceAll(/\s+/g, " ").trim(), open: side === "after" && open }
        return "pass"
      })
      await run()
      proxy.watch(() => "pass")
      return statements
    },
    breakAt: async ({ name, number, side }, strike, run, again) => {
      let isStruck = false
      const runOnce = () => {
        // numbers the statements from 1
        proxy.watch((passing) => {
          if (isStruck || passing.number !== number || passing.side !== side) return "pass"
          isStruck = true
          return strike(passing, database)
        })
        return run()
      }
      let result = await runOnce()
      for (let runs = 1; again !== undefined && !isStruck && runs < mostRuns; runs++) {
        proxy.watch(() => "pass")
        await again()
        result = await runOnce()
      }
      expect(isStruck, name).toBe(true)
      proxy.watch(() => "pass")
      return result
    },
    close: async () => {
      await past.dispose()
      await proxy.close()
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  }
  return database
}

/** Cuts the connection at both ends. */
export const cut: Strike = () => "cut"

/** Terminates the server's process of the connection, and lets the statement pass. */
export const terminate: Strike = async ({ backend }, { direct }) => {
  await direct(SqlClient.SqlClient.use((sql) => sql`select pg_terminate_backend(${backend}, 5000)`))
  return "pass" as const
}

/** A program of this folder in a process of its own, which gets the address of the database; and how it is killed. */
export const killed = (file: string): Breakage => {
  let child: ChildProcess | undefined
  return {
    run: async ({ proxied }) => {
      const program = await bundle(path.join(import.meta.dirname, file))
      await new Promise<void>((resolve) => {
        child = spawn(process.execPath, [program, proxied], { stdio: "ignore" })
        child.on("exit", () => resolve())
      })
    },
    strike: () => {
      child?.kill("SIGKILL")
      return "cut"
    }
  }
}
