/**
 * Handlers that rest because another session holds a lock on the table of their declaration. For a moment this worker takes
 * none of their chunks, and waits for the table again after that: so the chunks of other handlers are persisted meanwhile.
 * No attempt is charged.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ClaimLimits } from "../ChunkStore.ts"
import type { TableLocked } from "../Declaration.ts"
import type { Handler } from "../Handler.ts"
import * as Kind from "../Kind.ts"

/** How long a handler rests, in milliseconds. */
const length = 2000

/** The resting handlers of a drain. */
export interface Rests {
  /** Has a handler rest. The first time, it is logged. */
  readonly begin: (handler: Handler, error: TableLocked) => Effect.Effect<void>
  /** Notes that rows of a handler were written. */
  readonly end: (handler: Handler) => void
  readonly has: (handler: Handler) => boolean
  /** The limits of a claim, without the chunks of resting handlers. */
  readonly apply: (limits: ClaimLimits) => ClaimLimits
  /**
   * Looks for work again and again while there is none but that of resting handlers. Waits for a locked table no longer than
   * a run may take.
   */
  readonly outlast: <A extends { readonly isEmpty: boolean }, E, R>(
    find: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
}

/** Milliseconds of a monotonic clock. */
interface Rest {
  /** When its table was found locked first. */
  readonly since: number
  readonly until: number
}

/** No handler rests. `longest`: how long a run may take. */
export const make = Effect.fnUntraced(function*(longest: Duration.Duration): Effect.fn.Return<Rests> {
  const clock = yield* Clock.Clock
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const rests = new Map<Handler, Rest>()
  const has = (handler: Handler) => (rests.get(handler)?.until ?? 0) > now()
  const kindOf = ({ namespace, output }: Handler): Kind.Kind => ({ namespace, schemaIdentity: output.identity })
  /** How long to wait for the first table that has not been locked for too long; undefined if there is none. */
  const left = (): number | undefined => {
    const times = [...rests.values()].filter(({ since, until }) =>
      until > now() && now() - since < Duration.toMillis(longest)
    )
    return times.length === 0 ? undefined : Math.max(1, Math.min(...times.map(({ until }) => until)) - now())
  }
  return {
    begin: (handler, error) =>
      Effect.suspend(() => {
        const before = rests.get(handler)
        // tried again soon after the last rest
        const goesOn = before !== undefined && now() - before.until < Duration.toMillis(longest)
        rests.set(handler, { since: goesOn ? before.since : now(), until: now() + length })
        return goesOn ? Effect.void : Effect.logWarning(
          `handler ${handler.name} waits: ${error.message}. Its chunks are persisted when the lock is gone, without a ` +
            "charged attempt; those of other handlers go on"
        )
      }),
    end: (handler) => void rests.delete(handler),
    has,
    apply: (limits) => {
      const resting = [...rests.keys()].filter(has).map(kindOf)
      return resting.length === 0 ? limits : {
        ...limits,
        except: [...limits.except ?? [], ...resting],
        own: (limits.own ?? []).filter((own) => !resting.some((kind) => Kind.equals(kind, own)))
      }
    },
    outlast: Effect.fnUntraced(function*(find) {
      while (true) {
        const found = yield* find
        const wait = found.isEmpty ? left() : undefined
        if (wait === undefined) return found
        yield* Effect.sleep(wait)
      }
    })
  }
})
