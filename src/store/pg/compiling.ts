/**
 * Keeps the declarations that a store has compiled.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Declaration, TableUnfit } from "../../Declaration.ts"
import { type CompiledTables, compileTables } from "./declared.ts"
import type { Tables } from "./tables.ts"

/** How long a compiled declaration is used, in milliseconds. The table may change, for example a column's default. */
const freshFor = 60_000

/** The compiled declarations of a store. */
export interface Compiling {
  readonly of: (declaration: Declaration) => Effect.Effect<CompiledTables, SqlError | TableUnfit>
  /** Whether it was compiled before; then its table may have changed since. */
  readonly isKnown: (declaration: Declaration) => boolean
  /** Whether writing one of its tables runs code of the application, as it was last compiled. */
  readonly runsCode: (declaration: Declaration) => boolean
  /** Forgets a declaration whose statement failed: its table may have changed. */
  readonly forget: (declaration: Declaration) => void
}

/** Compiles each declaration when it is first used, and again after {@link freshFor}. */
export const makeCompiling = (t: Tables): Compiling => {
  const known = new WeakMap<Declaration, { readonly compiled: CompiledTables; readonly until: number }>()
  return {
    of: Effect.fnUntraced(function*(declaration) {
      const now = yield* Clock.currentTimeMillis
      const before = known.get(declaration)
      if (before !== undefined && now < before.until) return before.compiled
      const compiled = yield* compileTables(t, declaration)
      known.set(declaration, { compiled, until: now + freshFor })
      return compiled
    }),
    isKnown: (declaration) => known.has(declaration),
    runsCode: (declaration) => {
      const { children = [], parent } = known.get(declaration)?.compiled ?? {}
      return [...parent === undefined ? [] : [parent], ...children].some(({ runsCode }) => runsCode)
    },
    forget: (declaration) => void known.delete(declaration)
  }
}
