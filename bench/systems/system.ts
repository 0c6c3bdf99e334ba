/**
 * What the bench requires of a system. Each system runs in a process of its own (`harness/child.ts`).
 */
import type { Figures } from "../harness/rounds.ts"
import type { Call } from "../work.ts"

/** A system, connected. */
export interface Running {
  /** Records calls by the system's own way of recording many. */
  readonly fill: (calls: ReadonlyArray<Call>) => Promise<void>
  /** Works until so many more records are in the domain table, and then stops. */
  readonly drain: (count: number) => Promise<void>
  readonly close: () => Promise<void>
  /** For benches that watch a worker at work. */
  readonly worker?: Worker
}

/** A worker that is started, looked at, and stopped. */
export interface Worker {
  readonly start: () => Promise<void>
  /** What it has under way is finished first. */
  readonly stop: () => Promise<void>
  /** What was measured inside it: totals since it was opened, medians since it was started. */
  readonly figures: () => Figures
  /** Makes this many claims while there is nothing to claim, and returns how long they took. */
  readonly claimNothing?: (times: number) => Promise<Figures>
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
  /** Whether a worker of Sluice has the default poll interval, instead of one second. */
  readonly ownSchedule?: boolean
  /** How many ordering keys the records get, in turns. */
  readonly keys?: number
  /** The share of records whose handler fails, half of them before and half after its first write. */
  readonly failing?: number
}
