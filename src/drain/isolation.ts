/**
 * Decides how the runs of each handler share transactions: as its options say, or more strictly after a run has sent a
 * statement that does not fit. The stricter mode lasts until the process ends, and is logged once.
 */
import * as Effect from "effect/Effect"
import type { Rule } from "../ChunkStore.ts"
import type { Handler, Isolation } from "../Handler.ts"
import type { NotShared } from "./failure.ts"

/** The isolation of each handler of a drain. */
export interface Isolations {
  /** How a handler's runs share a transaction. */
  readonly of: (handler: Handler) => Isolation
  /** What a run may send in a batch with this many members. */
  readonly ruleOf: (handler: Handler, members: number) => Rule
  /** Records a run that cannot share its transaction. */
  readonly learn: (error: NotShared) => Effect.Effect<void>
}

/** The initial isolations of a drain. */
export const make = (): Isolations => {
  const learnt = new Map<Handler, Isolation>()
  const of = (handler: Handler): Isolation => learnt.get(handler) ?? handler.options.isolation ?? "batch"
  return {
    of,
    ruleOf: (handler, members) => {
      if (handler.options.isolation === "transaction") return "apart"
      // one run takes the whole batch
      if (handler.run._tag === "Many") return "alone"
      // the option is a promise: a run's leftovers in the transaction do not harm the others
      if (handler.options.isolation === "batch" && !learnt.has(handler)) return "alone"
      switch (of(handler)) {
        case "transaction":
          return "alone"
        case "batch":
          return members === 1 ? "alone" : "batch"
        case "together":
          return "together"
      }
    },
    learn: ({ one: { handler }, refusal }) => {
      const isPromise = refusal.reason === "together" || of(handler) === "together"
      const next: Isolation = refusal.reason === "together" ? "batch" : "transaction"
      if (learnt.get(handler) === next) return Effect.void
      learnt.set(handler, next)
      const annotations = { "sluice.handler": handler.name, "sluice.statement": refusal.statement }
      return isPromise
        ? Effect.logWarning(
          `handler ${handler.name} says isolation: "together", but its runs send more than requests or one plain statement: ` +
            `from now on they go ${next === "batch" ? "one after another" : "each in a transaction of its own"}. ` +
            `Remove the option from the handler`
        ).pipe(Effect.annotateLogs(annotations))
        : Effect.logInfo(
          `handler ${handler.name} sends a statement that may change what other runs in its transaction see: from now on ` +
            `each of its runs has a transaction of its own. Set isolation: "transaction" to do so from the start, or ` +
            `"batch" if what the statement leaves affects no other run`
        ).pipe(Effect.annotateLogs(annotations))
    }
  }
}
