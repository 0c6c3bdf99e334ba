/**
 * Numbers by a seed, for tests that draw what they do.
 */

/** Dice that fall by a seed: a throw is a whole number from 0 to below the limit. */
export const dice = (seed: number) => {
  let state = seed
  // mulberry32
  return (below: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return (((mixed ^ (mixed >>> 14)) >>> 0) * below) / 2 ** 32 | 0
  }
}
