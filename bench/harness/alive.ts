/**
 * What is alive in a process: to see that nothing is left behind when a system was closed.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as v8 from "node:v8"
import type { Figures } from "./rounds.ts"

/**
 * Fibers that have not ended, the one of this question left out. V8 tells of all objects of a kind that something still
 * points at, after a collection; ended fibers are among them, in caches, and can be told by their exit only.
 */
const runningFibers = async (): Promise<number> => {
  const waiting = Effect.runFork(Effect.never)
  const running = v8.queryObjects(waiting.constructor, { format: "summary" })
    .filter((summary) => summary.includes("_exit: undefined")).length
  await Effect.runPromise(Fiber.interrupt(waiting))
  if (running === 0) throw new Error("fibers cannot be counted any more: not even the one that waits was found")
  return running - 1
}

/** Counts what is alive. */
export const alive = async (): Promise<Figures> => ({
  fibers: await runningFibers(),
  listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
  // sockets, timers, pipes: whatever could keep the process going
  resources: process.getActiveResourcesInfo().length,
  heapBytes: process.memoryUsage().heapUsed
})
