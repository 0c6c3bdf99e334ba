/**
 * The order in which seeds are tried: with a bug, those first that have found it before.
 */
import { knownSeeds } from "./knownSeeds.ts"

/** Seeds of the world `mixed` that have found a bug of the drain, or of the simulation itself, which is fixed. */
export const regressions: ReadonlyArray<number> = [20076, 20186, 30389, 97060]

/** So many seeds from the first, each once. */
export function* seedsOf(bug: string | undefined, count: number, first = 1): Generator<number> {
  const known = new Set(bug === undefined ? [] : knownSeeds[bug])
  yield* known
  for (let seed = first; seed < first + count; seed++) if (!known.has(seed)) yield seed
}
