/**
 * Warns of handlers that were built with another client than the store's. What they write by that client is not in
 * Sluice's transactions: it stays when a run fails, and is written again by the retry.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../ChunkStore.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"

/** Logs a warning that names them. It is not an error, because a handler may be meant to write to another database. */
export const warnOfOutside = ({ list }: HandlerRegistry["Service"], { outsideOf }: ChunkStore["Service"]) =>
  Effect.suspend(() => {
    const names = new Map<string, Array<string>>()
    for (const { declaration, name, services } of list) {
      // the store itself carries out a declaration
      const reason = declaration === undefined ? outsideOf?.(services) : undefined
      if (reason !== undefined) names.set(reason, [...names.get(reason) ?? [], name])
    }
    return Effect.forEach(names, ([reason, handlers]) =>
      Effect.logWarning(
        `handlers were built with ${reason}: ${handlers.join(", ")}. What they write by it is not in Sluice's ` +
          `transactions: it stays when a run fails, and is written again by the retry. Provide to their layers the client ` +
          `that the store has; in a module of the command, provide none`
      ), { discard: true })
  })
