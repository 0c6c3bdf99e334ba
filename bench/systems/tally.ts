/**
 * The count of what a watched worker has done.
 */
import { sharedNow } from "../harness/clock.ts"
import type { Figures } from "../harness/rounds.ts"

/** Counts. */
export interface Tally {
  /** So many more records are in the domain table. */
  readonly done: (n: number) => void
  /** So many handlers have failed, and that is settled. */
  readonly failed: (n: number) => void
  /** Resolves when so many more have come to one of these ends. */
  readonly more: (count: number) => Promise<void>
  readonly figures: () => Figures
}

/** Begins to count. */
export const tally = (): Tally => {
  let done = 0
  let failed = 0
  let lastAt = Number.NaN
  let waiting: { readonly goal: number; readonly resolve: () => void } | undefined
  const changed = () => {
    if (waiting !== undefined && done + failed >= waiting.goal) waiting.resolve()
  }
  return {
    done: (n) => {
      done += n
      lastAt = sharedNow()
      changed()
    },
    failed: (n) => {
      failed += n
      changed()
    },
    more: (count) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      waiting = { goal: done + failed + count, resolve }
      changed()
      return promise
    },
    figures: () => ({ done, failed, lastAt })
  }
}
