/**
 * Makes a claim in a scope: when the scope closes, chunks without an outcome are given back.
 *
 * A claim has two halves. Making it takes due chunks from the store and holds them by a lease. Running it works on them
 * until each has an outcome: see `run.ts`. A worker makes the next claim while it runs this one.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import { ChunkStore, type ChunkStoreError, type ClaimedChunk, type ClaimRequest } from "../ChunkStore.ts"
import { DomainEvents } from "../DomainEvents.ts"
import type { Engine } from "./engine.ts"
import * as Held from "./held.ts"
import * as Lease from "./lease.ts"
import { measureClaim } from "./observe/metrics.ts"
import type { Outcomes } from "./Outcome.ts"
import { IsAdmitted, Quarantine } from "./Quarantine.ts"
import { type Report, reportOf } from "./Report.ts"
import { run } from "./run.ts"

/** Chunks that are held for as long as a scope is open. */
export interface Claimed {
  /** The chunks of the claim. What the store persists by itself is not among them: see `inside.ts`. */
  readonly chunks: ReadonlyArray<ClaimedChunk>
  /** Whether nothing was due. */
  readonly isEmpty: boolean
  /** Whether the store saw that nothing else was due. */
  readonly last: boolean
  /** The outcomes so far. */
  readonly outcomes: Outcomes
  /** What has become of them so far. */
  readonly report: () => Report
  /**
   * Works on them until each has an outcome. Fails when the database fails; the chunks without an outcome are not charged.
   */
  readonly run: Effect.Effect<Report, ChunkStoreError>
}

/** Claims chunks and holds them until the scope closes. */
export const claimScoped = Effect.fnUntraced(function*(
  engine: Engine,
  request: ClaimRequest & { readonly token: string; readonly inline?: boolean }
): Effect.fn.Return<Claimed, ChunkStoreError, ChunkStore | DomainEvents | Scope> {
  const store = yield* ChunkStore
  const services = Context.make(ChunkStore, store).pipe(Context.add(DomainEvents, yield* DomainEvents))
  const clock = yield* Clock.Clock
  const began = clock.monotonicTimeNanosUnsafe()
  const held = yield* Effect.uninterruptibleMask((restore) =>
    // the claim may have been made even if no answer arrives, because of an error or an interruption
    Effect.onError(restore(store.claim(request)), () => engine.releases.giveUp(request.token)).pipe(
      Effect.map((claim) => Held.make(claim, engine.releases, engine.pulse)),
      Effect.tap((held) => Effect.addFinalizer(() => finish(engine, held, request, began)))
    )
  )
  engine.pulse.progress()
  const { chunks, last } = held.claim
  const report = () => reportOf(chunks, held.outcomes)
  return {
    chunks,
    isEmpty: chunks.length === 0,
    last: last === true,
    outcomes: held.outcomes,
    report,
    run: carry(engine, held).pipe(
      Effect.map(report),
      Effect.provideContext(services)
    )
  }
})

/** Gives back chunks without an outcome, then measures and logs the claim, even when it was interrupted. */
const finish = (engine: Engine, held: Held.Held, { inline = false }: { readonly inline?: boolean }, began: bigint) =>
  Effect.suspend(() =>
    held.claim.chunks.length === 0 || held.claim.isVoid?.() === true ? Effect.void : held.release.pipe(
      Effect.andThen(measureClaim(engine.registry, held.claim.chunks, held.outcomes, began)),
      Effect.andThen(engine.uses.claimed(held.outcomes, inline)),
      Effect.andThen(engine.log(held.outcomes))
    )
  )

/** Runs a claim while its lease is renewed; a suspect chunk runs alone in the process. */
const carry = Effect.fnUntraced(function*(engine: Engine, held: Held.Held) {
  const { chunks, token } = held.claim
  const [first] = chunks
  if (first === undefined) return
  const store = yield* ChunkStore
  const { lease: duration } = engine.settings
  const lease = yield* Lease.make(token, duration, held.chunks)
  const running = run(engine, held, lease)
  const quarantine = yield* Quarantine
  const isSuspect = chunks.length === 1 && first.crashes > 0 && !(yield* IsAdmitted)
  const inTurn = isSuspect
    ? quarantine.alone(Effect.andThen(Effect.ignore(store.renew(token, chunks, duration, true)), running))
    : quarantine.shared(running)
  yield* Effect.raceFirst(inTurn, lease.keep)
})
