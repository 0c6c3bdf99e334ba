/**
 * Keeps the declarations that a store has compiled.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { Declaration, TableUnfit } from "../../Declaration.ts"
import { type CompiledTables, compileTables } from "./declared.ts"
import { codeOf } from "./errors.ts"
import type { Tables } from "./tables.ts"

/** How long a compiled declaration is used, in milliseconds. The table may change, for example a column's default. */
const freshFor = 60_000

/** The compiled declarations of a store. */
export interface Compiling {
  readonly of: (declaration: Declaration) => Effect.Effect<CompiledTables, SqlError | TableUnfit>
  /** The same, also if it is in doubt: for a statement whose failure says nothing of a chunk. */
  readonly evenDoubted: (declaration: Declaration) => Effect.Effect<CompiledTables, SqlError | TableUnfit>
  /** Whether it was compiled before; then its table may have changed since. */
  readonly isKnown: (declaration: Declaration) => boolean
  /** Whether writing one of its tables runs code of the application, as it was last compiled. */
  readonly runsCode: (declaration: Declaration) => boolean
  /**
   * Notes that the statement of a declaration failed: its table may have changed. It is forgotten, or in doubt if a
   * constraint refused a row, which a table that has not changed does as well.
   */
  readonly failed: (declaration: Declaration, error: unknown) => void
}

/** A unique or exclusion constraint, a foreign key, or a check. */
const refusesRows: ReadonlySet<string | undefined> = new Set(["23505", "23P01", "23503", "23514"])

interface Known {
  readonly compiled: CompiledTables
  readonly until: number
  isDoubted: boolean
}

/** Compiles each declaration when it is first used, and again after {@link freshFor}. */
export const makeCompiling = (t: Tables): Compiling => {
  const known = new WeakMap<Declaration, Known>()
  const find = Effect.fnUntraced(function*(declaration: Declaration, isEnough: (before: Known) => boolean) {
    const now = yield* Clock.currentTimeMillis
    const before = known.get(declaration)
    if (before !== undefined && now < before.until && isEnough(before)) return before.compiled
    const compiled = yield* compileTables(t, declaration)
    known.set(declaration, { compiled, until: now + freshFor, isDoubted: false })
    return compiled
  })
  return {
    of: (declaration) => find(declaration, ({ isDoubted }) => !isDoubted),
    evenDoubted: (declaration) => find(declaration, () => true),
    isKnown: (declaration) => known.get(declaration)?.isDoubted === false,
    runsCode: (declaration) => {
      const { children = [], parent } = known.get(declaration)?.compiled ?? {}
      return [...parent === undefined ? [] : [parent], ...children].some(({ runsCode }) => runsCode)
    },
    failed: (declaration, error) => {
      const before = known.get(declaration)
      if (before !== undefined && isSqlError(error) && refusesRows.has(codeOf(error))) before.isDoubted = true
      else known.delete(declaration)
    }
  }
}
