/**
 * Observes the statements of handlers' runs at their connection. Runs that share a transaction may leave only rows in it. A
 * run that would leave more is stopped before the statement is sent, and runs in its own transaction next time.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import type { Refusal, Rule, Watch } from "../../ChunkStore.ts"
import { shorten } from "../../internal/quote.ts"
import { natureOf } from "./nature.ts"

/** The longest statement text in a message. */
const longestStatement = 200

const shown = (sql: string): string => shorten(sql.replaceAll(/\s+/g, " ").trim(), longestStatement)

/** A statement that a handler's run may not send. A defect, because handlers should not recover from it. */
class StatementRefused extends Error {
  override readonly name = "StatementRefused"
}

/** What the statements of a transaction have left in it, besides rows. */
export interface Left {
  /** Something that other statements in the transaction would see. */
  transaction: boolean
  /** Something that outlives the transaction. */
  session: boolean
}

/** How many savepoints a statement of the client opens. It releases a savepoint also after it has rolled back to it. */
const savepointsOf = (sql: string): number => /^savepoint/i.test(sql) ? 1 : /^release/i.test(sql) ? -1 : 0

/** One run of a handler. */
export class Run implements Watch {
  readonly rule: Rule
  readonly #isWithin: (context: Context.Context<never>) => boolean
  readonly #left: Left
  /** The surrounding run, if any: a handler may persist another call inline. */
  readonly #outer: Run | undefined
  #sent = false
  #ended = false
  #succeeded = false
  #statements = 0
  /** How many savepoints of the client's nested transactions are open. */
  #savepoints = 0
  #fiber: number | undefined
  #inFlight = 0
  #idle: Deferred.Deferred<void> | undefined
  #refusal: Refusal | undefined

  constructor(
    rule: Rule,
    options: {
      readonly left: Left
      readonly outer: Run | undefined
      /** Whether a context is in the run's transaction. */
      readonly isWithin: (context: Context.Context<never>) => boolean
    }
  ) {
    this.rule = rule
    this.#left = options.left
    this.#outer = options.outer
    this.#isWithin = options.isWithin
  }

  /**
   * Whether a fiber of the run may send nothing more. What a run registers for the commit runs
   * outside the transaction, and may send anything.
   */
  isOver(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    return this.#ended && this.#isWithin(fiber.context)
  }

  get busy(): boolean {
    return this.#inFlight > 0
  }
  get ended(): boolean {
    return this.#ended
  }
  get sent(): boolean {
    return this.#sent
  }
  get refusal(): Refusal | undefined {
    return this.#refusal
  }

  /** Notes that Sluice itself sends a statement on behalf of the run. */
  markSent(): void {
    this.#sent = true
    this.#outer?.markSent()
  }

  of<A, E, R>(run: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.withFiber((fiber) => {
      this.#fiber = fiber.id
      return Effect.tap(
        Effect.provideService(this.rule === "together" ? run : this.#apart(run), CurrentRun, this),
        () => {
          this.#succeeded = true
          return this.#inFlight === 0 ? Effect.void : this.#wait
        }
      )
    })
  }

  /**
   * Keeps a resolver from merging requests of this run with those that a fiber of an earlier run makes too late, in the same
   * transaction. A resolver merges only requests of one innermost transaction, so each run counts as one.
   */
  #apart<A, E, R>(run: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return run.pipe(
      Effect.provideService(InnermostTransaction, OfRun),
      Effect.provideService(OfRun, this)
    )
  }

  /** Waits for statements that fibers of the run have sent. Otherwise the next run would wait for them, at its own cost. */
  readonly #wait = Effect.suspend(() => Deferred.await(this.#idle ??= Deferred.makeUnsafe<void>()))

  /** Notes that a statement of the run begins. */
  began(): void {
    this.#inFlight++
  }

  /** Notes that it has ended. */
  finished(): void {
    if (--this.#inFlight === 0 && this.#idle !== undefined) {
      Deferred.doneUnsafe(this.#idle, Effect.void)
      this.#idle = undefined
    }
  }

  end(): void {
    this.#ended = true
    // A fiber that outlives the run has a nested transaction open, and with it the client's lock for nested transactions:
    // those of the runs that follow would wait for it.
    if (this.rule === "batch" && this.#succeeded && this.#savepoints > 0) {
      this.#refusal ??= { reason: "shared", statement: "savepoint, of a nested transaction that outlives its run" }
    }
  }

  #refuse(reason: Refusal["reason"], sql: string, what: string): StatementRefused {
    const statement = shown(sql)
    this.#refusal ??= { reason, statement }
    return new StatementRefused(`${what}: ${statement}`)
  }

  /** The reason why the run may not send a statement, if any. Otherwise notes what the statement leaves. */
  admit(sql: string, fiber: Fiber.Fiber<unknown, unknown>): StatementRefused | undefined {
    if (this.#ended) {
      return new StatementRefused(`the handler's run is over, and its transaction with it: ${shown(sql)}`)
    }
    if (this.#refusal !== undefined) return new StatementRefused(`a statement before it was refused: ${shown(sql)}`)
    const outer = this.#outer?.admit(sql, fiber)
    if (outer !== undefined) return outer
    this.#sent = true
    const nature = natureOf(sql)
    if (nature.control) {
      return this.#refuse(
        "control",
        sql,
        "a handler cannot begin or end a transaction, which is Sluice's: use sql.withTransaction for a savepoint"
      )
    }
    const leaves = nature.transaction || nature.session
    if (this.rule !== "alone" && this.rule !== "apart" && leaves) {
      return this.#refuse("shared", sql, "the statement may change what other runs in the transaction see")
    }
    if (this.rule === "together") {
      if (nature.order || nature.savepoint) {
        return this.#refuse("together", sql, "a handler whose runs go together takes no lock and makes no savepoint")
      }
      if (rootOf(fiber) === this.#fiber && ++this.#statements > 1) {
        return this.#refuse("together", sql, "a handler whose runs go together sends one statement, or requests only")
      }
    }
    if (nature.savepoint) this.#savepoints += savepointsOf(sql)
    if (nature.transaction || this.rule === "apart") this.#left.transaction = true
    if (nature.session || this.rule === "apart") this.#left.session = true
    return undefined
  }
}

/**
 * The id of a fiber's oldest ancestor. A resolver's merged requests run in a fiber without a parent, which distinguishes
 * their statements from those that the run sends directly. `_parent` is internal to the runtime: without it each fiber is
 * its own root.
 */
const rootOf = (fiber: Fiber.Fiber<unknown, unknown>): number => {
  let root: object & { readonly id: number } = fiber
  while (Predicate.hasProperty(root, "_parent") && isFiber(root._parent)) root = root._parent
  return root.id
}

const isFiber = (value: unknown): value is object & { readonly id: number } =>
  Predicate.hasProperty(value, "id") && typeof value.id === "number"

/** The run, as the transaction by which a resolver tells requests apart. */
class OfRun extends Context.Service<OfRun, Run>()("effect-sluice/store/pg/OfRun") {}

/** Effect's own reference by its key, which is not exported: the service that holds the innermost transaction. */
const InnermostTransaction = Context.Reference<Context.Key<OfRun, Run> | undefined>(
  "effect/sql/CurrentTransactionService",
  { defaultValue: () => undefined }
)

/** The run that a fiber belongs to. */
export const CurrentRun = Context.Reference<Run | undefined>("effect-sluice/store/pg/CurrentRun", {
  defaultValue: () => undefined
})

/** Runs Sluice's own statements, which no rule applies to, even within a handler's run; but not after the run's end. */
export const unwatched = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const run = fiber.getRef(CurrentRun)
    if (run === undefined) return effect
    if (run.isOver(fiber)) {
      return Effect.die(
        new StatementRefused("the handler's run is over, and its transaction with it: Sluice sends nothing more")
      )
    }
    if (!run.ended) run.markSent()
    return Effect.provideService(effect, CurrentRun, undefined)
  })
