/**
 * Handlers that rest because another session holds a lock on the table of their declaration. While a handler rests, this
 * drain takes none of its chunks, so that those of other handlers are persisted. After the rest it tries the table again. No
 * attempt is charged.
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
  /** Lets a handler rest. The first rest in a row is logged. */
  readonly begin: (handler: Handler, error: TableLocked) => Effect.Effect<void>
  /** Notes that rows of a handler were written: its next rest is a first one. */
  readonly end: (handler: Handler) => void
  readonly has: (handler: Handler) => boolean
  /** The limits of a claim, without the chunks of resting handlers. */
  readonly apply: (limits: ClaimLimits) => ClaimLimits
  /**
   * Looks for work. If only resting handlers have work, it waits for the end of a rest and looks again. It waits for a
   * locked table no longer than a run may take.
   */
  readonly outlast: <A extends { readonly isEmpty: boolean }, E, R>(
    find: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
}

/** When a handler rests, in milliseconds of a monotonic clock. */
interface Rest {
  /** When its table was first found locked. */
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
  /**
   * How long the shortest rest still lasts, of tables that `outlast` waits for; undefined if there is none. `asked`: when
   * work was looked for. A rest may have ended since, but the chunks of its handler were left out.
   */
  const left = (asked: number): number | undefined => {
    const times = [...rests.values()].filter(({ since, until }) =>
      until > asked && now() - since < Duration.toMillis(longest)
    )
    return times.length === 0 ? undefined : Math.max(1, Math.min(...times.map(({ until }) => until)) - now())
  }
  return {
    begin: (handler, error) =>
      Effect.suspend(() => {
        const before = rests.get(handler)
        // the table was tried soon after the last rest, and is still locked
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
        const asked = now()
        const found = yield* find
        const wait = found.isEmpty ? left(asked) : undefined
        if (wait === undefined) return found
        yield* Effect.sleep(wait)
      }
    })
  }
})
