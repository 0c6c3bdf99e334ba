/**
 * The connection of a handlers' transaction, as all runs in it share it. A transaction in memory has nothing but rows, and
 * a nested one belongs to its fiber. Here are the two things that a connection to a server has beside: savepoints, whose
 * rollback takes back whatever the connection has sent since, and settings, which hold for whatever it sends next. A
 * setting is refused where runs share the transaction, as the store on Postgres does.
 *
 * What outlives the transaction, as a role that is left behind, is not expressed: in memory there is no pool that hands a
 * connection on.
 */
import type { Rule, Transaction, Watch } from "effect-sluice/ChunkStore"
import { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { domain } from "./rows.ts"

/** The connection of one transaction. */
export class Session {
  /** The setting: whose rows are written. */
  tenant: string | undefined
  /** The rows that were written, by whichever run. */
  readonly written: Array<string> = []

  /** A transaction whose runs share this connection. */
  watched(transaction: Transaction): Transaction {
    return { ...transaction, watch: (rule) => new SharedRun(rule, transaction.watch(rule)) }
  }
}

/** The connection a handler runs on. */
export const CurrentSession = Context.Reference<Session | undefined>("test/CurrentSession", {
  defaultValue: () => undefined
})

const CurrentRun = Context.Reference<SharedRun | undefined>("test/CurrentRun", { defaultValue: () => undefined })

class SharedRun implements Watch {
  refusal: Watch["refusal"]
  readonly rule: Rule
  readonly #watch: Watch
  readonly end: () => void

  constructor(rule: Rule, watch: Watch) {
    this.rule = rule
    this.#watch = watch
    this.end = watch.end.bind(watch)
  }

  get sent(): boolean {
    return this.#watch.sent
  }

  of<A, E, R>(run: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return this.#watch.of(Effect.provideService(run, CurrentRun, this))
  }
}

/** Says whose rows are written from here on, on this connection. */
export const setTenant = (tenant: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    const session = yield* CurrentSession
    const run = yield* CurrentRun
    if (session === undefined || run === undefined) return
    if (run.rule !== "alone" && run.rule !== "apart") {
      run.refusal = { reason: "shared", statement: "set tenant" }
      return yield* Effect.die(new Error("refused"))
    }
    session.tenant = tenant
  })

/** Runs an effect in a savepoint: when it fails, what the connection has written since is taken back. */
export const inSavepoint = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | MemoryDatabase> =>
  Effect.gen(function*() {
    const db = yield* MemoryDatabase
    const session = yield* CurrentSession
    const mark = session?.written.length ?? 0
    const exit = yield* Effect.exit(effect)
    if (Exit.isFailure(exit)) {
      for (const id of session?.written.splice(mark) ?? []) yield* db.use((access) => access.delete(domain, id))
    }
    return yield* exit
  })
