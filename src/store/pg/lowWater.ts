/**
 * Remembers where claims last found live rows. Claimed and deleted rows leave entries in the index until vacuum removes
 * them, and while a session holds a snapshot vacuum cannot. A claim that begins at the beginning then visits all of them
 * (150,000 drained beside a held snapshot: claims went from 3 to 13 ms; with the mark they stayed at 1.6).
 *
 * The mark is only a hint: rows become due behind it, by late commits, priority, expired leases and releases. So it is
 * dropped when a claim reaches the end, when this process releases something, and on a timer. No claim reports an empty
 * queue before it has scanned from the beginning, except a `hasty` one while a scan from the beginning takes long. For hasty
 * claims the mark is also kept at the end, a second behind the last claimed row, which limits such scans to a twentieth of
 * the time. (A record at a time beside a snapshot held over 150,000 dead entries: each was visited twice, 13 ms a time.)
 */
/** A place in an order by time, then by number. */
export interface Place {
  /** The server's ISO 8601 text. */
  readonly time: string
  readonly seq: bigint
}

/** How far a scan got. */
export interface Reached {
  /** All free rows up to here were taken; at the end, a second before the last row. Undefined if no row was found. */
  readonly place: Place | undefined
  /** Whether the scan reached the end. */
  readonly ended: boolean
}

/** Where a claim may begin: after the place. */
export interface Mark extends Reached {
  readonly place: Place
  /** When to scan from the beginning again. */
  readonly until: number
  /** Whether a scan from the beginning takes long. */
  readonly costly: boolean
}

/** Rows behind the mark are found within a second, or later if a scan from the beginning itself takes long. */
const shortest = 1000
/** Limits scans from the beginning to a twentieth of the time … */
const share = 20
/** … except for scans longer than half a second, which may be due to a frozen process or a locked table. */
const longest = 10_000
/** Milliseconds, and milliseconds for each row, above which a scan is slow: more than the rows themselves can have taken. */
const long = 5
const longForRow = 0.1

/** The marks of a store. */
export type LowWater = ReturnType<typeof make>

/** The marks of a store, one for each namespace that is claimed from. */
export const make = () => {
  const marks = new Map<string | undefined, Mark>()
  return {
    /** Drops all marks. */
    reset: (): void => marks.clear(),
    /** Drops the marks at the end: a row became due behind them. */
    resetEnds: (): void => {
      for (const [namespace, { ended }] of marks) if (ended) marks.delete(namespace)
    },
    /** Where to begin. Times are milliseconds of a monotonic clock. */
    from: (namespace: string | undefined, now: number, hasty: boolean): Mark | undefined => {
      const found = marks.get(namespace)
      if (found !== undefined && found.until > now) return found.ended && !hasty ? undefined : found
      marks.delete(namespace)
      return undefined
    },
    /** Records a scan that began at `mark`, took from `began` to `now`, returned `rows`, and reached `reached`. */
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
      // A scan that began at a mark does not measure the beginning, so the last scan from the beginning counts. The mark is
      // kept even when a drain catches up with its recorder repeatedly, where each scan would visit millions of dead
      // entries.
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
