/**
 * Handlers that cannot run in this process because a service that they need was not provided, or because the table of
 * their declaration does not fit. The program is at fault, not a chunk: no chunk is charged an attempt. The chunks are
 * parked until a program that can run them takes them up, and this worker no longer reports that it serves them.
 *
 * A missing service stays missing until a restart. A table may be repaired under a running worker, so each beat looks at it
 * again.
 */
import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type Declaration, TableUnfit } from "../Declaration.ts"
import type { Handler } from "../Handler.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import { errorIn } from "./failure.ts"

/** What a drain has learned of its handlers. */
export interface Unfit {
  /** Records that a run of it succeeded: if a service is missing later, the chunk is at fault. */
  readonly succeeded: (handler: Handler) => void
  /** Whether a failure means that the handler cannot be run here. The first time, it is logged. */
  readonly learn: (handler: Handler, cause: Cause.Cause<unknown>) => Effect.Effect<boolean>
  /** Why the table of a handler does not fit its declaration, if that is why it cannot be run. */
  readonly table: (handler: Handler) => string | undefined
  /** The log's word for why a kind's handler cannot run here. Undefined if the kind has none, or if it can run. */
  readonly why: (namespace: string, schemaIdentity: string) => "table-unfit" | "service-missing" | undefined
  /** Looks again at the tables that did not fit, and runs the handlers of those that fit now. */
  readonly lookAgain: Effect.Effect<void>
  /** The registry without those that cannot be run. */
  readonly registry: HandlerRegistry["Service"]
}

/** The service that a run did not find, as Effect names it. */
const missingOf = (cause: Cause.Cause<unknown>): string | undefined => {
  for (const reason of cause.reasons) {
    if (reason._tag !== "Die" || !(reason.defect instanceof Error)) continue
    const [, name] = /^Service not found: (.+)$/.exec(reason.defect.message) ?? []
    if (name !== undefined) return name
  }
  return undefined
}

/** Why a handler cannot be run here, and what to do; undefined when the failure is a chunk's. */
const reasonOf = (cause: Cause.Cause<unknown>): string | undefined => {
  const service = missingOf(cause)
  if (service !== undefined) {
    return `it needs the service ${service}, which was not provided to its layer. Its chunks are parked, without a ` +
      "charged attempt, until a program that has the service runs: provide it, and restart"
  }
  const unfit = errorIn(cause, TableUnfit)
  return unfit === undefined
    ? undefined
    : `${unfit.message}. Its chunks are parked, without a charged attempt. Repair the table, and this worker ` +
      "continues by itself; or correct the declaration, and restart"
}

/**
 * How long a beat looks at tables, and at how many at a time. A statement that changes a table may lock it for longer; then
 * the next beat begins with the others.
 */
const longestLook = Duration.seconds(1)
const looksAtOnce = 4

/** Whether a table fits its declaration now; see `Inspector.declaration`. */
type Check = (declaration: Declaration) => Effect.Effect<unknown, unknown>

/** Of the handlers of a registry. */
export const make = (registry: HandlerRegistry["Service"], check: Check): Unfit => {
  const proven = new WeakSet<Handler>()
  const unfit = new Map<Handler, TableUnfit | undefined>()
  const lookAt = Effect.fnUntraced(function*(handler: Handler, declaration: Declaration) {
    // last in the next beat, so that a look that takes too long does not keep others from their turn
    const reason = unfit.get(handler)
    unfit.delete(handler)
    unfit.set(handler, reason)
    const fits = yield* check(declaration).pipe(
      Effect.as(true),
      // also if the database does not answer: the next beat looks again
      Effect.catch(() => Effect.succeed(false))
    )
    if (!fits) return
    unfit.delete(handler)
    yield* Effect.logInfo(`the table of handler ${handler.name} fits its declaration again: its chunks continue`)
  })
  return {
    succeeded: (handler) => void proven.add(handler),
    learn: (handler, cause) =>
      Effect.suspend(() => {
        if (unfit.has(handler)) return Effect.succeed(true)
        // a table may change under a handler that has run
        const isJudged = !proven.has(handler) || errorIn(cause, TableUnfit) !== undefined
        const reason = isJudged ? reasonOf(cause) : undefined
        if (reason === undefined) return Effect.succeed(false)
        unfit.set(handler, errorIn(cause, TableUnfit))
        return Effect.as(Effect.logError(`handler ${handler.name} cannot run here: ${reason}`), true)
      }),
    table: (handler) => unfit.get(handler)?.message,
    why: (namespace, schemaIdentity) => {
      const handler = registry.find(namespace, schemaIdentity)
      if (handler === undefined || !unfit.has(handler)) return undefined
      return unfit.get(handler) === undefined ? "service-missing" : "table-unfit"
    },
    lookAgain: Effect.suspend(() =>
      Effect.forEach(
        [...unfit],
        ([handler, table]) =>
          table === undefined || handler.declaration === undefined ? Effect.void : lookAt(handler, handler.declaration),
        { concurrency: looksAtOnce, discard: true }
      ).pipe(Effect.timeoutOption(longestLook), Effect.asVoid)
    ),
    registry: {
      ...registry,
      find: (namespace, schemaIdentity) => {
        const handler = registry.find(namespace, schemaIdentity)
        return handler === undefined || unfit.has(handler) ? undefined : handler
      }
    }
  }
}
