/**
 * A session whose statements are held back, one by one, until somebody lets them go: a store on one connection, which goes
 * through a proxy.
 */
import { PgClient } from "@effect/sql-pg"
import { ChunkStore, DeadLetters, Erasure, EventLog, Pauses, Retention, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { startProxy, type Verdict } from "../faults/proxy.ts"

/** What a program of a session may use. */
export type Env =
  | ChunkStore.ChunkStore
  | DeadLetters.DeadLetters
  | Erasure.Erasure
  | EventLog.EventLog
  | Pauses.Pauses
  | Retention.Retention
  | SqlClient.SqlClient

/** A program on one connection. */
export type Program = Effect.Effect<unknown, unknown, Env>

/** What is done with a statement that is held: it goes, or its connection breaks, before it or before its answer. */
export type Move = "go" | "break before" | "break after"

/** A session. */
export interface Session {
  readonly name: string
  readonly start: (program: Program) => void
  /** Runs a program whose statements nobody holds back. */
  readonly run: (program: Program) => Promise<unknown>
  /** The text of the statement that is held back. */
  readonly held: () => string | undefined
  /** Moves the statement that is held back. */
  readonly move: (move: Move) => void
  /** Its server process, while the server works on a statement of its; it may wait for a lock. */
  readonly atServer: () => number | undefined
  /** Server processes whose connections were broken, which may not have noticed yet. */
  readonly broken: () => ReadonlyArray<number>
  /** How its program ended. */
  readonly exit: () => Exit.Exit<unknown, unknown> | undefined
  readonly close: () => Promise<void>
}

/** Beginnings that see and hold nothing yet: no other session can tell when they are done. */
const isFree = (text: string): boolean =>
  /^\s*(begin|savepoint|release|set |select now\(\)|select (pg_catalog\.)?set_config)/i.test(text)

/** The layers of a store on a database, as a session or the director of them uses it. */
export const runtimeOn = (url: string, connections: number) =>
  ManagedRuntime.make(
    PgStore.layerStorage.pipe(
      Layer.provideMerge(PgClient.layer({ url: Redacted.make(url), maxConnections: connections })),
      Layer.provide(Settings.layer({ notify: false }))
    )
  )

/** Opens a session on a database. `changed` is told whenever something has happened in it. */
export const openSession = async (name: string, url: string, changed: () => void): Promise<Session> => {
  const address = new URL(url)
  const proxy = await startProxy(Number(address.port))
  address.port = String(proxy.port)
  const runtime = runtimeOn(address.href, 1)

  let running = false
  let held: { readonly text: string; readonly decide: (verdict: Verdict) => void } | undefined
  let atServer: number | undefined
  let breaksAfter = false
  let broken: Array<number> = []
  let backend = 0
  let exit: Exit.Exit<unknown, unknown> | undefined

  proxy.watch((passing) => {
    backend = passing.backend
    if (!running) return "pass"
    if (passing.side === "after") {
      atServer = undefined
      const verdict = breaksAfter ? "cut" : "pass"
      if (breaksAfter) broken.push(backend)
      breaksAfter = false
      changed()
      return verdict
    }
    if (isFree(passing.text)) return "pass"
    return new Promise((resolve) => {
      held = { text: passing.text, decide: resolve }
      changed()
    })
  })
  // opened before anything is held
  await runtime.runPromise(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select 1`))

  return {
    name,
    start: (program) => {
      running = true
      exit = undefined
      broken = []
      void runtime.runPromiseExit(program).then((ended) => {
        running = false
        exit = ended
        changed()
      })
    },
    run: (program) => runtime.runPromise(program),
    held: () => held?.text,
    move: (move) => {
      const decide = held?.decide
      held = undefined
      if (move === "break before") {
        broken.push(backend)
        decide?.("cut")
        return
      }
      atServer = backend
      breaksAfter = move === "break after"
      decide?.("pass")
    },
    atServer: () => atServer,
    broken: () => broken,
    exit: () => exit,
    close: async () => {
      await runtime.dispose()
      await proxy.close()
    }
  }
}
