/**
 * Where claims found live rows last. What was claimed and deleted leaves entries in the index until vacuum takes them
 * away, and while somebody holds a snapshot vacuum cannot: a claim that begins at the beginning walks over all of them
 * (150,000 drained beside a held snapshot: claims went from 3 to 13 ms; with the mark they stayed at 1.6).
 *
 * The mark is a hint, never the truth: rows become due behind it, by late commits, priority, expired leases and releases.
 * So it is forgotten when a claim comes to the end, when this process gives something back, and on a timer; and no claim
 * says that there is nothing before it has looked from the beginning. One that may be `hasty` does, where looking from the
 * beginning takes long: for these the mark is kept at the end as well, a second behind what was claimed last, so that looking
 * never takes more than a twentieth of the time. (A record at a time beside a snapshot held over 150,000 dead entries: each
 * was walked for twice, 13 ms a time.)
 */
/** A place in an order by time, and by number among those of one time. */
export interface Place {
  /** As the server printed it in ISO 8601. */
  readonly time: string
  readonly seq: bigint
}

/** How far a scan came. */
export interface Reached {
  /** All that is free up to here was taken; a second before the last row if that was the end. None if no row was found. */
  readonly place: Place | undefined
  /** Whether there was no more. */
  readonly ended: boolean
}

/** Where a claim may begin: after the place. */
export interface Mark extends Reached {
  readonly place: Place
  /** When to look from the beginning again. */
  readonly until: number
  /** Whether looking from the beginning takes long. */
  readonly costly: boolean
}

/** What lies behind the mark is found within a second, or longer where looking from the beginning takes long itself. */
const shortest = 1000
/** So that looking from the beginning never takes more than a twentieth of the time … */
const share = 20
/** … but for looks longer than half a second: what took so long may have been a frozen process or a locked table. */
const longest = 10_000
/** Milliseconds, and milliseconds for each row, above which looking takes long: more than the rows themselves can have taken. */
const long = 5
const longForRow = 0.1

/** The marks of a store, one for each namespace that is claimed from. */
export const make = () => {
  const marks = new Map<string | undefined, Mark>()
  return {
    /** Forgets all marks. */
    reset: (): void => marks.clear(),
    /** Forgets those at the end: something became due behind them. */
    resetEnds: (): void => {
      for (const [namespace, { ended }] of marks) if (ended) marks.delete(namespace)
    },
    /** Where to begin. Times are milliseconds of a clock that is never set. */
    from: (namespace: string | undefined, now: number, hasty: boolean): Mark | undefined => {
      const found = marks.get(namespace)
      if (found !== undefined && found.until > now) return found.ended && !hasty ? undefined : found
      marks.delete(namespace)
      return undefined
    },
    /** A scan that began at `mark` took from `began` to `now`, gave `rows`, and came to `reached`. */
    move: (
      namespace: string | undefined,
      { began, mark, now, reached, rows }: {
        readonly began: number
        readonly mark: Mark | undefined
        readonly now: number
        readonly reached: Reached
        readonly rows: number
      }
    ): void => {
      const took = now - began
      const isEnd = reached.ended
      // A scan that began at a mark says nothing about the beginning: what that takes is known from the last look. So the mark
      // outlives that a drain catches up with its recorder, again and again, where each look walks over millions of dead entries.
      const costly = mark?.costly === true || took >= long + rows * longForRow
      if (isEnd && mark?.ended !== true && !costly) {
        marks.delete(namespace)
        return
      }
      const place = reached.place ?? (mark ?? marks.get(namespace))?.place
      if (place === undefined) return
      const until = mark?.until ?? now + Math.min(longest, Math.max(isEnd ? 0 : shortest, took * share))
      marks.set(namespace, { place, ended: isEnd, until, costly })
    }
  }
}
