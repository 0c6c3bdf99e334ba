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
  /** Why a handler cannot be run here, and what to do, for the caller of `persistNow`; undefined if it can. */
  readonly advice: (handler: Handler) => string | undefined
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

/** What keeps a handler from running here. */
type Problem = TableUnfit | { readonly _tag: "ServiceMissing"; readonly service: string }

/** What keeps a handler from running here; undefined when the failure is a chunk's. */
const problemOf = (cause: Cause.Cause<unknown>): Problem | undefined => {
  const service = missingOf(cause)
  return service === undefined ? errorIn(cause, TableUnfit) : { _tag: "ServiceMissing", service }
}

const notProvided = (service: string): string => `the service ${service}, which was not provided to its layer`

/** A problem for the log: what to do with this program. */
const forLog = (problem: Problem): string =>
  problem._tag === "ServiceMissing"
    ? `it needs ${notProvided(problem.service)}. Its chunks are parked, without a ` +
      "charged attempt, until a program that has the service runs: provide it, and restart"
    : `${problem.message}. Its chunks are parked, without a charged attempt. Repair the table, and this worker ` +
      "continues by itself; or correct the declaration, and restart"

/** A problem for a caller who waits for the rows of one chunk. */
const forCaller = (problem: Problem): string =>
  problem._tag === "ServiceMissing"
    ? `its handler needs ${
      notProvided(problem.service)
    }. A program that has it persists the chunk: provide it, and restart`
    : `${problem.message} (\`sluice handlers\` shows more). It is persisted by a worker when the table is repaired`

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
  const unfit = new Map<Handler, Problem>()
  const tableOf = (handler: Handler): TableUnfit | undefined => {
    const problem = unfit.get(handler)
    return problem?._tag === "TableUnfit" ? problem : undefined
  }
  const lookAt = Effect.fnUntraced(function*(handler: Handler, declaration: Declaration) {
    // last in the next beat, so that a look that takes too long does not keep others from their turn
    const problem = unfit.get(handler)
    // another look has found that it fits
    if (problem === undefined) return
    unfit.delete(handler)
    unfit.set(handler, problem)
    const fits = yield* check(declaration).pipe(
      Effect.as(true),
      // also if the database does not answer: the next beat looks again
      Effect.catch(() => Effect.succeed(false))
    )
    if (!fits || !unfit.delete(handler)) return
    yield* Effect.logInfo(`the table of handler ${handler.name} fits its declaration again: its chunks continue`)
  })
  return {
    succeeded: (handler) => void proven.add(handler),
    learn: (handler, cause) =>
      Effect.suspend(() => {
        if (unfit.has(handler)) return Effect.succeed(true)
        // a table may change under a handler that has run
        const isJudged = !proven.has(handler) || errorIn(cause, TableUnfit) !== undefined
        const problem = isJudged ? problemOf(cause) : undefined
        if (problem === undefined) return Effect.succeed(false)
        unfit.set(handler, problem)
        return Effect.as(Effect.logError(`handler ${handler.name} cannot run here: ${forLog(problem)}`), true)
      }),
    table: (handler) => tableOf(handler)?.message,
    advice: (handler) => {
      const problem = unfit.get(handler)
      return problem && forCaller(problem)
    },
    why: (namespace, schemaIdentity) => {
      const handler = registry.find(namespace, schemaIdentity)
      if (handler === undefined || !unfit.has(handler)) return undefined
      return tableOf(handler) === undefined ? "service-missing" : "table-unfit"
    },
    lookAgain: Effect.suspend(() =>
      Effect.forEach(
        [...unfit],
        ([handler, { _tag }]) =>
          _tag === "ServiceMissing" || handler.declaration === undefined
            ? Effect.void
            : lookAt(handler, handler.declaration),
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
