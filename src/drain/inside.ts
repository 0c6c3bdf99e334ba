/**
 * Decides when the store persists answers of declared handlers by itself, and when the drain claims them.
 *
 * The drain asks before each claim. The store persists the first due chunks and reports the first one that it left. If that
 * is of another declared kind, this kind is next; if it has to be claimed, a claim is next. So both ways take chunks in the
 * order of the queue, and neither waits for the other's backlog.
 *
 * For example, five answers wait, and the table refuses the row of the third. The store's statement fails and has changed
 * nothing; no chunk is charged. The next claim takes the five. Their handler runs once for the whole batch (`runMany.ts`,
 * by the store's insert), so halves of halves are tried until the third is alone. It is charged, and the others are
 * persisted.
 *
 * If that happens often, smaller tries find the refused chunk, and only that one is claimed (`trySize.ts`). If most are
 * refused, more and more claims come before the next try.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import {
  ChunkStore,
  type ChunkStoreError,
  type ClaimLimits,
  type Inside,
  type InsideKind,
  type InsideRequest,
  type PersistedInside
} from "../ChunkStore.ts"
import type { TableLocked } from "../Declaration.ts"
import { DomainEvents } from "../DomainEvents.ts"
import type { DomainObjectCreated } from "../DomainObject.ts"
import type { Handler } from "../Handler.ts"
import { announce } from "../internal/announce.ts"
import * as Kind from "../Kind.ts"
import { timeoutOf } from "./batch.ts"
import type { Claimed } from "./claim.ts"
import type { Engine } from "./engine.ts"
import { measureInside } from "./observe/metrics.ts"
import { addReports, emptyReport, type Report } from "./Report.ts"
import * as TrySize from "./trySize.ts"

/** The most claims between two tries, after consecutive failures. */
const mostSkipped = 32

/** A declared handler, and the effect of its recent failures. */
interface Candidate {
  readonly handler: Handler
  readonly declaration: NonNullable<Handler["declaration"]>
  readonly kind: InsideKind
  readonly size: TrySize.TrySize
  /** How many claims come before its next try. */
  skip: number
  /** How many came after its last failure; 0 after a success. */
  skipped: number
  /** Whether the last chunk that it persisted was the only one due. Then the next may be as well: one is cheaper to ask for. */
  findsOne: boolean
}

/** The result of a try. */
interface Done {
  readonly report: Report
  /** Nothing is due any more. */
  readonly last: boolean
}

/** The sum of what is persisted inside, for a caller that interrupts the claim in which it happens. */
export const CurrentSum = Context.Reference<{ report: Report } | undefined>("effect-sluice/drain/CurrentSum", {
  defaultValue: () => undefined
})

/** The declared handlers of a drain. */
export interface Insides {
  /**
   * Persists the first due chunks inside, or makes the claim if that is next. With `mayRunLater` and a deep backlog, the
   * `run` of the result persists them, so that it can go beside other runs.
   */
  readonly orClaim: <E, R>(
    limits: ClaimLimits,
    mayRunLater: boolean,
    claim: (limits: ClaimLimits) => Effect.Effect<Claimed, E, R>
  ) => Effect.Effect<Claimed, E, R>
}

const candidateOf = (handler: Handler): ReadonlyArray<Candidate> => {
  const { declaration, namespace, output: { fingerprint, identity, version } } = handler
  return declaration === undefined || fingerprint === undefined
    ? []
    : [{
      handler,
      declaration,
      kind: { namespace, schemaIdentity: identity, version, fingerprint },
      size: TrySize.make(),
      skip: 0,
      skipped: 0,
      findsOne: false
    }]
}

const reportOf = (chunks: ReadonlyArray<PersistedInside>): Report => {
  const persisted = chunks.filter(({ objects }) => objects.length > 0).length
  return { ...emptyReport, claimed: chunks.length, persisted, nothingToCreate: chunks.length - persisted }
}

/** The events of such chunks. */
export const eventsOf = (handler: string, chunks: ReadonlyArray<PersistedInside>): ReadonlyArray<DomainObjectCreated> =>
  chunks.flatMap(({ context, correlationId, key, namespace, objects, service }) =>
    objects.map((object): DomainObjectCreated => ({ object, key, namespace, handler, service, correlationId, context }))
  )

const nothingClaimed = { chunks: [], outcomes: new Map() } as const

/** A finished try, as a claim whose run has nothing left to do. */
const toClaimed = ({ last, report }: Done): Claimed => ({
  ...nothingClaimed,
  isEmpty: report.claimed === 0,
  last,
  report: () => report,
  run: Effect.succeed(report)
})

/** A try that is still to be made, as a claim. */
const toRun = (later: Effect.Effect<Report>): Claimed => {
  let done = emptyReport
  const noted = Effect.tap(later, (report) =>
    Effect.sync(() => {
      done = report
    }))
  // an interruption must not come between the commit and this
  const run = Effect.uninterruptible(noted)
  return { ...nothingClaimed, isEmpty: false, last: false, report: () => done, run }
}

/** Which way is next: a declared handler, or a claim. */
interface Turns {
  /** The handler that is next; undefined when a claim is. */
  readonly pick: () => Candidate | undefined
  /** Notes that a claim is made now. Returns the most chunks that it may take, if it takes less than usual. */
  readonly claimed: () => number | undefined
  /** The handler to try beside other runs, if the last try did not reach the end of the queue. */
  readonly beside: () => Candidate | undefined
  /** Notes that nothing of this kind may be persisted now. */
  readonly pass: (one: Candidate) => void
  /** Notes that a try failed for another reason than a row: a claim is next. */
  readonly failed: (one: Candidate) => void
  /** Notes that a try failed, probably because of a row. Returns whether a claim is next. */
  readonly refused: (one: Candidate, size: number) => boolean
  readonly succeeded: (one: Candidate, inside: Inside) => void
}

const makeTurns = (candidates: ReadonlyArray<Candidate>): Turns => {
  let current = candidates[0]
  // the first due chunk has to be claimed
  let claimNext = false
  // the next claim takes only this one
  let claimOne = false
  // the last try did not reach the end of the queue
  let isDeep = false

  const serving = (left: InsideKind): Candidate | undefined => {
    const serves = ({ kind }: Candidate) =>
      Kind.serves(kind, left) && kind.version === left.version && kind.fingerprint === left.fingerprint
    const own = candidates.filter(serves)
    return own.find(({ kind }) => kind.namespace === left.namespace) ?? own[0]
  }

  const failed = (one: Candidate) => {
    isDeep = false
    one.skipped = Math.min(mostSkipped, Math.max(1, 2 * one.skipped))
    one.skip = one.skipped - 1
    claimNext = true
  }
  const claimsOne = () => {
    claimNext = claimOne = true
  }

  return {
    pick: () => {
      if (claimNext || current === undefined) return undefined
      if (current.skip === 0) return current
      current.skip--
      return undefined
    },
    claimed: () => {
      const most = claimOne ? 1 : undefined
      claimNext = claimOne = false
      return most
    },
    // not by `pick`, which counts claims
    beside: () =>
      !isDeep || claimNext || current === undefined || current.skip > 0 || current.size.searches()
        ? undefined
        : current,
    pass: (one) => {
      claimNext = true
      current = candidates[(candidates.indexOf(one) + 1) % candidates.length]
    },
    failed,
    refused: (one, size) => {
      const next = one.size.refused(size)
      if (next === "claim all") failed(one)
      if (next === "claim one") claimsOne()
      return next !== "try"
    },
    succeeded: (one, { chunks, ended, last, left }) => {
      one.skipped = 0
      if (chunks.length > 0) one.findsOne = chunks.length === 1 && last
      isDeep = !ended
      if (one.size.persisted(chunks.length) === "claim one") claimsOne()
      if (left === undefined) return
      const next = left === "other" ? undefined : serving(left)
      // a chunk of the same kind cannot be persisted inside: for example its output was pruned, or its context lacks a key
      if (next === undefined || next === one) claimNext = true
      else current = next
    }
  }
}

/** The namespaces that a handler of `core` leaves to others; undefined when nothing of the kind may be persisted now. */
const notIn = (
  { paused, registry, rests }: Engine,
  { handler, kind }: Candidate
): ReadonlyArray<string> | undefined => {
  if (registry.find(kind.namespace, kind.schemaIdentity) !== handler || rests.has(handler)) return undefined
  const pauses = paused().filter((pause) =>
    Kind.covers(pause, { ...kind, namespace: pause.namespace }) &&
    (kind.namespace === Kind.core || [kind.namespace, Kind.wildcard].includes(pause.namespace))
  )
  if (kind.namespace !== Kind.core) return pauses.length > 0 ? undefined : []
  if (pauses.some((pause) => pause.namespace === Kind.wildcard)) return undefined
  const own = registry.list.filter((other) => other !== handler && other.output.identity === kind.schemaIdentity)
  return [...pauses, ...own].map((one) => one.namespace)
}

/** What the tries of a drain share. */
interface Running {
  readonly engine: Engine
  readonly store: ChunkStore["Service"]
  readonly events: DomainEvents["Service"]
  readonly turns: Turns
}

/** How the store was asked to persist chunks of a handler. */
interface Tried {
  readonly one: Candidate
  /** The most chunks that it was to take. */
  readonly limit: number
  readonly began: bigint
}

/** Notes why a try failed, and which way is next. */
const afterFailure = Effect.fnUntraced(function*(
  { engine, turns }: Running,
  { limit, one }: Tried,
  error: ChunkStoreError | TableLocked
) {
  if (error._tag === "TableLocked") {
    turns.pass(one)
    return yield* engine.rests.begin(one.handler, error)
  }
  // if this is an outage, the claim reports it
  yield* Effect.logDebug(`not persisted inside, claiming instead: ${error.message}`)
  // 57014: it took too long
  if (error.transient || error.code === "57014") turns.failed(one)
  // a smaller try may still find the refused row
  else if (!turns.refused(one, limit)) return
  yield* engine.uses.failed(one.handler, error)
})

/** Announces what a try has persisted, and notes which way is next. */
const afterSuccess = Effect.fnUntraced(function*(
  { engine, events, store, turns }: Running,
  { began, one }: Tried,
  inside: Inside
): Effect.fn.Return<Done> {
  const { handler, kind } = one
  const { chunks, last } = inside
  engine.uses.persisted(handler, chunks.length)
  turns.succeeded(one, inside)
  yield* Effect.annotateCurrentSpan({ "sluice.handler": handler.name, "sluice.chunks": chunks.length })
  if (chunks.length > 0) {
    engine.unfit.succeeded(handler)
    engine.rests.end(handler)
    yield* store.afterCommit(announce(() => events.publish(eventsOf(handler.name, chunks))))
    yield* measureInside(kind, handler.name, chunks, began)
  }
  const report = reportOf(chunks)
  const sum = yield* CurrentSum
  if (sum !== undefined) sum.report = addReports(sum.report, report)
  return { report, last }
})

/**
 * Lets the store persist chunks of one handler. Undefined when it must not do so now, or failed. Uninterruptible, because
 * what is committed must be announced. The store makes its statement interruptible again.
 */
const persist = Effect.fnUntraced(
  function*(running: Running, one: Candidate, limits: ClaimLimits) {
    const { engine, store, turns } = running
    const { declaration, handler, kind } = one
    const excluded = notIn(engine, one)
    if (excluded === undefined) {
      turns.pass(one)
      return undefined
    }
    const clock = yield* Clock.Clock
    const most = one.findsOne ? 1 : limits.limit
    const tried: Tried = { one, limit: one.size.next(most), began: clock.monotonicTimeNanosUnsafe() }
    const request: InsideRequest = {
      ...engine.rests.apply(limits),
      limit: tried.limit,
      kind,
      notIn: excluded,
      declaration,
      handler: handler.name,
      handlerVersion: handler.options.version ?? 1,
      timeout: timeoutOf(handler, engine.settings.handlerTimeout)
    }
    const result = yield* Effect.result(store.persistInside(request))
    engine.pulse.progress()
    if (Result.isFailure(result)) {
      yield* afterFailure(running, tried, result.failure)
      return undefined
    }
    if (result.success === undefined) {
      engine.uses.unable(handler)
      turns.failed(one)
      return undefined
    }
    return yield* afterSuccess(running, tried, result.success)
  },
  Effect.uninterruptible,
  Effect.withSpan("Drain.inside")
)

/** The declared handlers of a drain, over its store. */
export const make = Effect.fnUntraced(function*(
  engine: Engine,
  namespace: string | undefined
): Effect.fn.Return<Insides, never, ChunkStore | DomainEvents> {
  const store = yield* ChunkStore
  const events = yield* DomainEvents
  const { registry, settings } = engine
  const candidates = settings.declaredInside
    ? registry.list.flatMap(candidateOf).filter(({ kind }) =>
      namespace === undefined || kind.namespace === namespace || kind.namespace === Kind.core
    )
    : []
  const turns = makeTurns(candidates)

  const attempt = (one: Candidate, limits: ClaimLimits) => persist({ engine, store, events, turns }, one, limits)

  /** Persists the first due chunks inside. Undefined when a claim is next. */
  const tryNow = Effect.fnUntraced(function*(limits: ClaimLimits): Effect.fn.Return<Done | undefined> {
    const tried = new Set<Candidate>()
    while (true) {
      const one = turns.pick()
      if (one === undefined || tried.has(one)) return undefined
      tried.add(one)
      const done = yield* attempt(one, limits)
      if (done === undefined && one.size.searches()) tried.delete(one)
      else if (done === undefined || done.last || done.report.claimed > 0) return done
    }
  })

  return {
    orClaim: Effect.fnUntraced(function*<E, R>(
      limits: ClaimLimits,
      mayRunLater: boolean,
      claim: (limits: ClaimLimits) => Effect.Effect<Claimed, E, R>
    ): Effect.fn.Return<Claimed, E, R> {
      const beside = mayRunLater ? turns.beside() : undefined
      if (beside !== undefined) {
        return toRun(Effect.map(attempt(beside, limits), (done) => done?.report ?? emptyReport))
      }
      const done = candidates.length === 0 ? undefined : yield* tryNow(limits)
      if (done !== undefined) return toClaimed(done)
      return yield* claim({ ...limits, limit: turns.claimed() ?? limits.limit })
    })
  }
})
