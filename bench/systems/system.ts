/**
 * What the bench asks of a system. Each system runs in a process of its own (`harness/child.ts`).
 */
import type { Call } from "../work.ts"

/** A system, connected. */
export interface Running {
  /** Records calls by the system's own way of recording many. */
  readonly fill: (calls: ReadonlyArray<Call>) => Promise<void>
  /** Works until so many more records are in the domain table, and then stops. */
  readonly drain: (count: number) => Promise<void>
  readonly close: () => Promise<void>
}

/** A way of doing the work. */
export interface System {
  /** Which versions, and how it is set up: for the reader of the table. */
  readonly about: string
  /** Why it cannot run here, if it cannot. */
  readonly skip?: () => string | undefined
  /** Connects, and makes the system's tables. `options` are what the bench varies. */
  readonly open: (url: string, options: Options) => Promise<Running>
}

/** What benches vary. */
export interface Options {
  readonly batch?: number
  readonly inFlight?: number
}
