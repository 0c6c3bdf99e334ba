/**
 * Counts how the answers of declared handlers are persisted, inside the store or by claims, and why by claims. Each beat
 * writes the counts to the worker's row, so persisting writes nothing more.
 *
 * It also detects a lasting refusal. It is normal that the store fails to persist a batch when one of its answers is at
 * fault: the claim that follows charges that answer. If several tries in a row fail and the claims find no answer at
 * fault, the store can persist none of the handler's answers, and that is logged once. A refused row is always an answer's
 * fault, even if this worker does not find it: another one may have claimed it.
 */
import * as Effect from "effect/Effect"
import type { InsideUse, WhyClaimed } from "../CallView.ts"
import type { ChunkStoreError, ClaimedChunk } from "../ChunkStore.ts"
import type { Handler } from "../Handler.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import { escapeProse } from "../internal/escape.ts"
import { redact } from "../internal/redact.ts"
import * as Metrics from "../Metrics.ts"
import type { Outcome, Outcomes } from "./Outcome.ts"

/** How many tries in a row must fail, with no answer at fault, before the refusal counts as lasting. */
const lasting = 3

/** The counts of a drain's declared handlers. */
export interface InsideUses {
  /** Notes that the store persisted chunks of a handler. */
  readonly persisted: (handler: Handler, chunks: number) => void
  /** Notes that the store does not persist answers of this declaration by itself. */
  readonly unable: (handler: Handler) => void
  /** Notes that the store failed to persist chunks of a handler. A lasting refusal is logged once. */
  readonly failed: (handler: Handler, error: ChunkStoreError) => Effect.Effect<void>
  /** Counts the outcomes of a claim. `inline`: `persistNow` or `recordNow` made it, for one call. */
  readonly claimed: (outcomes: Outcomes, inline: boolean) => Effect.Effect<void>
  /** The counts so far. `unfit`: why the table of a handler does not fit. */
  readonly list: (unfit: (handler: Handler) => string | undefined) => ReadonlyArray<InsideUse>
}

/** Whether the table has refused a row: a value (class 22) or a constraint (23). 22012 is the statement's own check. */
const refusesRow = ({ code = "" }: ChunkStoreError): boolean => /^2[23]/.test(code) && code !== "22012"

interface Use {
  readonly handler: Handler
  inside: number
  readonly claimed: Map<WhyClaimed, number>
  isUnable: boolean
  /** Tries that failed in a row, without an answer at fault. */
  failures: number
  /** Those of them in which the table did not refuse a row. */
  unexplained: number
  refusal: string | undefined
  isReported: boolean
}

/** The handler whose answer was at fault, if a failure was charged. */
const blamed = (outcome: Outcome): string | undefined => {
  if (outcome._tag !== "Settled") return undefined
  const { settlement } = outcome
  return settlement._tag === "Retry" || settlement._tag === "Bury" ? settlement.failure.handler : undefined
}

const whyOf = ({ failures, handler: { output }, isUnable }: Use, chunk: ClaimedChunk, inline: boolean): WhyClaimed => {
  if (inline) return "inline"
  if (isUnable) return "unable"
  if (chunk.attempts > 0 || chunk.crashes > 0) return "retry"
  if (chunk.orderingKey !== undefined) return "key"
  if (chunk.schemaVersion !== output.version) return "version"
  if (chunk.fingerprint !== output.fingerprint) return "fingerprint"
  return failures > 0 ? "refused" : "other"
}

/** Logs a lasting refusal, once. */
const report = (use: Use, error: ChunkStoreError) => {
  // no call is known here whose values the message could quote
  const message = escapeProse(redact(error.reason, [], error.code))
  use.refusal = error.code === undefined ? message : `${message} (${error.code})`
  if (use.isReported) return Effect.void
  use.isReported = true
  return Effect.logWarning(
    `the database persists no answer of handler ${use.handler.name} by itself: ${use.refusal}. Workers claim its answers ` +
      "and write the same rows, which takes longer. Look for what acts on its table, for example a trigger, and for " +
      "missing rights of this role on Sluice's tables"
  )
}

/** Makes the counts for a registry's handlers. `isOn`: whether the store may persist by itself. */
export const make = ({ list }: HandlerRegistry["Service"], isOn: boolean): InsideUses => {
  const uses = new Map(
    list.filter(({ declaration }) => declaration !== undefined).map((handler): [string, Use] => [handler.name, {
      handler,
      inside: 0,
      claimed: new Map(),
      isUnable: false,
      failures: 0,
      unexplained: 0,
      refusal: undefined,
      isReported: false
    }])
  )

  return {
    persisted: ({ name }, chunks) => {
      const use = uses.get(name)
      if (use === undefined) return
      use.isUnable = false
      // nothing was due, which does not show that the store can persist
      if (chunks === 0) return
      use.inside += chunks
      use.failures = use.unexplained = 0
      use.refusal = undefined
    },
    unable: ({ name }) => {
      const use = uses.get(name)
      if (use !== undefined) use.isUnable = true
    },
    failed: ({ name }, error) =>
      Effect.suspend(() => {
        const use = uses.get(name)
        // an outage says nothing about the handler
        if (use === undefined || error.transient) return Effect.void
        use.failures++
        if (refusesRow(error)) return Effect.void
        use.unexplained++
        return use.unexplained < lasting ? Effect.void : report(use, error)
      }),
    claimed: (outcomes, inline) =>
      uses.size === 0 ? Effect.void : Effect.contextWith((context) => {
        const counts = new Map<Use, Map<WhyClaimed, number>>()
        for (const [chunk, outcome] of outcomes) {
          const use = uses.get(outcome._tag === "Persisted" ? outcome.persisted.handler : blamed(outcome) ?? "")
          if (use === undefined) continue
          if (outcome._tag !== "Persisted") {
            // an answer at fault explains the failed tries
            use.failures = use.unexplained = 0
            continue
          }
          const why = isOn ? whyOf(use, chunk, inline) : "off"
          const of = counts.get(use) ?? new Map<WhyClaimed, number>()
          counts.set(use, of.set(why, (of.get(why) ?? 0) + 1))
        }
        for (const [use, of] of counts) {
          for (const [reason, count] of of) {
            use.claimed.set(reason, (use.claimed.get(reason) ?? 0) + count)
            Metrics.count(Metrics.outside, { handler: use.handler.name, reason }, count, context)
          }
        }
        return Effect.void
      }),
    list: (unfit) =>
      [...uses.values()].map(({ claimed, handler, inside, refusal }) => ({
        handler: handler.name,
        inside,
        claimed: Object.fromEntries(claimed),
        refusal: refusal ?? null,
        unfit: unfit(handler) ?? null
      }))
  }
}
