/**
 * Counts fibers, handles and listeners of a process, to check that a closed system leaves nothing behind.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as v8 from "node:v8"
import type { Figures } from "./rounds.ts"

/**
 * Fibers that have not ended, without the one that counts. V8 lists all objects of a class that are still referenced, after
 * a garbage collection. Ended fibers are among them, in caches, and are recognized by their exit.
 */
const runningFibers = async (): Promise<number> => {
  const waiting = Effect.runFork(Effect.never)
  const running = v8.queryObjects(waiting.constructor, { format: "summary" })
    .filter((summary) => summary.includes("_exit: undefined")).length
  await Effect.runPromise(Fiber.interrupt(waiting))
  if (running === 0) throw new Error("fibers cannot be counted any more: not even the one that waits was found")
  return running - 1
}

/** Counts all of these. */
export const alive = async (): Promise<Figures> => ({
  fibers: await runningFibers(),
  listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
  // sockets, timers, pipes: all that could keep the process from ending
  resources: process.getActiveResourcesInfo().length,
  heapBytes: process.memoryUsage().heapUsed
})
