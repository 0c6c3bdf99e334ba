/**
 * A claim, in a scope: when the scope closes, whatever has no outcome is given back.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import {
  ChunkStore,
  type Claim,
  type ClaimedChunk,
  type ClaimRequest,
  type Kind,
  type StoreError
} from "../ChunkStore.ts"
import { DomainEvents } from "../DomainEvents.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import type { Settings } from "../Settings.ts"
import type { Isolations } from "./isolation.ts"
import * as Lease from "./lease.ts"
import type { ClaimLog } from "./observe/log.ts"
import { measureClaim } from "./observe/metrics.ts"
import type { Outcome, Outcomes } from "./Outcome.ts"
import { IsInside, Quarantine } from "./quarantine.ts"
import type { Releases } from "./releases.ts"
import { type Report, reportOf } from "./Report.ts"
import { run } from "./run.ts"
import type { Unfit } from "./unfit.ts"

/** What carries out claims. */
export interface Engine {
  readonly registry: HandlerRegistry["Service"]
  readonly settings: Settings
  readonly isolations: Isolations
  readonly unfit: Unfit
  readonly releases: Releases
  /** Kinds that nobody may drain now, where the claim does not say. */
  readonly paused: () => ReadonlyArray<Kind>
  readonly log: ClaimLog
  /** Told whenever something was done. */
  readonly progress: () => void
}

/** Chunks that are held for as long as a scope is open. */
export interface Claimed {
  readonly chunks: ReadonlyArray<ClaimedChunk>
  /** Whether the store saw that nothing else was due. */
  readonly last: boolean
  /** What became of them so far. */
  readonly outcomes: Outcomes
  /** Carries them to their ends. Fails when the database does; nobody is charged for that. */
  readonly run: Effect.Effect<Report, StoreError>
}

/** Claims chunks, until the scope closes. */
export const claimScoped = Effect.fnUntraced(function*(
  engine: Engine,
  request: ClaimRequest & { readonly token: string }
): Effect.fn.Return<Claimed, StoreError, ChunkStore | DomainEvents | Scope> {
  const store = yield* ChunkStore
  const services = Context.make(ChunkStore, store).pipe(Context.add(DomainEvents, yield* DomainEvents))
  const clock = yield* Clock.Clock
  const { registry, releases, settings } = engine
  const { token } = request
  const began = clock.monotonicTimeNanosUnsafe()
  const outcomes = new Map<ClaimedChunk, Outcome>()
  const hanging = new Set<ClaimedChunk>()
  const held = (claim: Claim) => claim.chunks.filter((chunk) => !outcomes.has(chunk))

  const finish = (claim: Claim) =>
    Effect.suspend(() => {
      if (claim.chunks.length === 0) return Effect.void
      // what hangs is not given back before it ends: when its lease is over first, it counts as a crash
      const rest = held(claim).filter((chunk) => !hanging.has(chunk))
      return (rest.length === 0 ? Effect.void : releases.soon(token, rest)).pipe(
        // also of a claim that was cut short: what it has committed is committed
        Effect.andThen(measureClaim(registry, claim.chunks, outcomes, began)),
        Effect.andThen(engine.log(outcomes))
      )
    })
  const claim = yield* Effect.uninterruptibleMask((restore) =>
    // the answer may be lost, or come when nobody waits for it any more, and the claim be made all the same
    Effect.onError(restore(store.claim(request)), () => releases.giveUp(token)).pipe(
      Effect.tap((claim) => Effect.addFinalizer(() => finish(claim)))
    )
  )
  engine.progress()

  const carry = Effect.gen(function*() {
    const { chunks } = claim
    if (chunks.length === 0) return reportOf(chunks, outcomes)
    const lease = yield* Lease.make(token, settings.lease, () => held(claim))
    const running = run({
      claim,
      registry,
      settings,
      isolations: engine.isolations,
      unfit: engine.unfit,
      paused: claim.paused ?? engine.paused(),
      refresh: lease.refresh,
      progress: engine.progress,
      ended: (chunk, outcome) => {
        outcomes.set(chunk, outcome)
        engine.progress()
      },
      onHang: (stuck, ended) => {
        for (const chunk of stuck) if (!outcomes.has(chunk)) hanging.add(chunk)
        return releases.after(ended, token, stuck.filter((chunk) => hanging.has(chunk)))
      },
      giveBackLater: (locked) => releases.later(token, locked)
    })
    const [first] = chunks
    const isSuspect = chunks.length === 1 && first!.crashes > 0 && !(yield* IsInside)
    const quarantine = yield* Quarantine
    const inTurn = isSuspect
      ? quarantine.alone(Effect.andThen(Effect.ignore(store.renew(token, chunks, settings.lease, true)), running))
      : quarantine.shared(running)
    yield* Effect.raceFirst(inTurn, lease.keep)
    return reportOf(chunks, outcomes)
  })
  return {
    chunks: claim.chunks,
    last: claim.last === true,
    outcomes,
    run: Effect.provideContext(carry, services)
  }
})
