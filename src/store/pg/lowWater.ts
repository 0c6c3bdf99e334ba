/**
 * Where claims found live rows last. What was claimed and deleted leaves entries in the index until vacuum takes them
 * away, and while somebody holds a snapshot vacuum cannot: a claim that begins at the beginning walks over all of them
 * (150,000 drained beside a held snapshot: claims went from 3 to 13 ms; with the mark they stayed at 1.6).
 *
 * The mark is a hint, never the truth: rows become due behind it, by late commits, priority, expired leases and releases.
 * So it is forgotten when a claim comes to the end, when this process gives something back, and on a timer; and no claim
 * says that there is nothing before it has looked from the beginning.
 */
/** A place in the order of claiming. */
export interface Place {
  readonly rank: string
  readonly seq: bigint
}

interface Mark {
  readonly place: Place
  /** When to look from the beginning again. */
  readonly until: number
}

/** What lies behind the mark is found within a second, or longer where looking from the beginning takes long itself. */
const shortest = 1000
/** So that looking from the beginning never takes more than a twentieth of the time. */
const share = 20

/** The marks of a store, one for each namespace that is claimed from. */
export const make = () => {
  const marks = new Map<string | undefined, Mark>()
  return {
    /** Forgets all marks. */
    reset: (): void => marks.clear(),
    /** Where to begin. */
    from: (namespace: string | undefined, now: number): Place | undefined => {
      const mark = marks.get(namespace)
      if (mark !== undefined && mark.until > now) return mark.place
      marks.delete(namespace)
      return undefined
    },
    /** A scan that took from `began` to `now` came to `place`, or to the end. */
    move: (namespace: string | undefined, place: Place | undefined, began: number, now: number): void => {
      const until = marks.get(namespace)?.until ?? now + Math.max(shortest, (now - began) * share)
      if (place === undefined) marks.delete(namespace)
      else marks.set(namespace, { place, until })
    }
  }
}
