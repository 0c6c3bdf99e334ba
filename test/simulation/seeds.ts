/**
 * The order in which seeds are tried: with a bug, those first that have found it before.
 */
import { knownSeeds } from "./knownSeeds.ts"

/** So many seeds, each once. */
export function* seedsOf(bug: string | undefined, count: number): Generator<number> {
  const known = new Set(bug === undefined ? [] : knownSeeds[bug])
  yield* known
  for (let seed = 1; seed <= count; seed++) if (!known.has(seed)) yield seed
}
