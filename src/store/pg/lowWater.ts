/**
 * Where claims found live rows last. What was claimed and deleted leaves entries in the index until vacuum takes them
 * away, and while somebody holds a snapshot vacuum cannot: a claim that begins at the beginning walks over all of them
 * (150,000 drained beside a held snapshot: claims went from 3 to 13 ms; with the mark they stayed at 1.6).
 *
 * The mark is a hint, never the truth: rows become due behind it, by late commits, priority, expired leases and releases.
 * So it is forgotten when a claim comes back short, when this process gives something back, and on a timer.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

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
    /** Runs a claim from the mark, if there is one, and moves the mark to where it came. */
    from: Effect.fnUntraced(function*<A, E, R>(
      namespace: string | undefined,
      claim: (
        from: Place | undefined
      ) => Effect.Effect<{ readonly answer: A; readonly reached: Place | undefined }, E, R>
    ) {
      const began = yield* Clock.currentTimeMillis
      const mark = marks.get(namespace)
      const from = mark !== undefined && mark.until > began ? mark : undefined
      const { answer, reached } = yield* claim(from?.place)
      if (reached === undefined) {
        marks.delete(namespace)
      } else {
        const now = yield* Clock.currentTimeMillis
        const until = from?.until ?? now + Math.max(shortest, (now - began) * share)
        marks.set(namespace, { place: reached, until })
      }
      return answer
    })
  }
}
