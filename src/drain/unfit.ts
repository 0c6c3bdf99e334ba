/**
 * Handlers that cannot run in this process because a service that they need was not provided. The program is at fault,
 * not a chunk: no chunk is charged an attempt. The chunks are parked until a program that has the service takes them up,
 * and this worker no longer reports that it serves them.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { Handler } from "../Handler.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"

/** What a drain has learned of its handlers. */
export interface Unfit {
  /** A run of it came to its end: what it fails with from now on is a chunk's doing. */
  readonly succeeded: (handler: Handler) => void
  /** Whether a failure means that the handler cannot be run here. The first time it is told in the log. */
  readonly learn: (handler: Handler, cause: Cause.Cause<unknown>) => Effect.Effect<boolean>
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

/** Of the handlers of a registry. */
export const make = (registry: HandlerRegistry["Service"]): Unfit => {
  const proven = new WeakSet<Handler>()
  const unfit = new Set<Handler>()
  return {
    succeeded: (handler) => void proven.add(handler),
    learn: (handler, cause) =>
      Effect.suspend(() => {
        if (unfit.has(handler)) return Effect.succeed(true)
        const service = proven.has(handler) ? undefined : missingOf(cause)
        if (service === undefined) return Effect.succeed(false)
        unfit.add(handler)
        return Effect.as(
          Effect.logError(
            `handler ${handler.name} cannot run here: it needs the service ${service}, which was not provided to its ` +
              "layer. Its chunks are parked, without a charged attempt, until a program that has the service runs: provide it, and restart"
          ),
          true
        )
      }),
    registry: {
      ...registry,
      find: (namespace, schemaIdentity) => {
        const handler = registry.find(namespace, schemaIdentity)
        return handler === undefined || unfit.has(handler) ? undefined : handler
      }
    }
  }
}
