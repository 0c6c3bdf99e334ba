/**
 * How many chunks the next try of a declared handler takes, while the table refuses rows.
 *
 * The store's statement fails as a whole when the table refuses a row. If that happens rarely, a claim takes all chunks
 * of the failed try. If it happens often, smaller tries look for the refused chunk. What succeeds is persisted, so the
 * refused chunk is soon the first one due. Then a claim takes only this one, and the other chunks are still persisted
 * inside.
 *
 * For example, failures are frequent and the 20th of 100 is refused: 100 and 32 fail, 16 are persisted, 8 and 4 fail, 2
 * and 1 are persisted, and the 20th is claimed. The next try takes 32, and each that succeeds doubles the size. So tries
 * take about as many chunks as there are between two refused ones.
 *
 * The sizes are powers of two, apart from the full one, because the server prepares a statement for each.
 */

/** The smallest size to continue at after a search. When refused chunks are closer together, claims find them faster. */
const least = 8

/** How many tries succeed before a failure counts as rare again. */
const calm = 8

/** The sizes of one handler's tries. */
export interface TrySize {
  /** How many chunks to take. `full` is the most that may be taken. */
  readonly next: (full: number) => number
  /** Whether a refused chunk is known to be among the first due chunks. Then only one try is made at a time. */
  readonly searches: () => boolean
  /** A try of this size failed. Returns what is next. */
  readonly refused: (size: number) => "try" | "claim one" | "claim all"
  /** A try has persisted so many chunks. If there were none, it says nothing about the table. Returns what is next. */
  readonly persisted: (count: number) => "try" | "claim one"
}

const powerOfTwo = (most: number): number => 2 ** Math.floor(Math.log2(Math.max(1, most)))

/** Begins with full tries. */
export const make = (): TrySize => {
  /** The size outside of a search; undefined when it is the full one. */
  let usual: number | undefined
  /**
   * A refused chunk is among so many of the first due chunks. Other workers may have taken it meanwhile; then a chunk is
   * claimed that need not have been.
   */
  let suspects: number | undefined
  let successes = calm

  const next = () => {
    if (suspects !== 1) return "try"
    suspects = undefined
    return "claim one"
  }
  return {
    next: (full) => Math.min(full, suspects === undefined ? usual ?? full : powerOfTwo(suspects / 2)),
    searches: () => suspects !== undefined,
    refused: (size) => {
      const isRare = successes >= calm
      successes = 0
      if (isRare) return "claim all"
      if (suspects === undefined) {
        usual = powerOfTwo(size / 2)
        if (usual < least) {
          usual = least
          return "claim all"
        }
      }
      suspects = Math.min(suspects ?? size, size)
      return next()
    },
    persisted: (count) => {
      if (count === 0) return next()
      successes++
      if (suspects !== undefined) {
        suspects = suspects > count ? suspects - count : undefined
        return next()
      }
      if (successes >= calm) usual = undefined
      else if (usual !== undefined && count >= usual) usual *= 2
      return "try"
    }
  }
}
