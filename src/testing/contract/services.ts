/**
 * What the scenes of the contract need beside a store: its clock, a table in the same database, and edits of the queue.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Settings from "../../Settings.ts"
import type { Stores } from "../../store/Stores.ts"

/** The clock that the store reads. */
export class Time extends Context.Service<Time, {
  /**
   * Lets time pass. With Effect's `TestClock` this is `TestClock.adjust`; for a database's clock, move every stored time
   * into the past instead.
   */
  readonly pass: (duration: Duration.Input) => Effect.Effect<void>
}>()("effect-sluice/testing/contract/Time") {}

/** A table of the application's own, in the store's database. It takes part in the store's transactions. */
export class Rows extends Context.Service<Rows, {
  /**
   * The name of the table for declared handlers (`TableHandler`): it has a column `text`, and a column `id` that it makes.
   * Scenes with declared handlers are left out without it.
   */
  readonly table?: string | undefined
  /** Inserts a row. */
  readonly add: (text: string) => Effect.Effect<void, unknown>
  /** The rows, in the order of their insertion. */
  readonly list: Effect.Effect<ReadonlyArray<string>, unknown>
  /**
   * Sends a statement that fails, and ignores the error, as a careless handler does. Where errors do not spoil a
   * transaction, it does nothing.
   */
  readonly swallowError: Effect.Effect<void, unknown>
  /** Runs an effect in a transaction of the application. */
  readonly transaction: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, unknown, R>
}>()("effect-sluice/testing/contract/Rows") {}

/** Changes to rows of the queue that no verb of the port makes. */
export class Edits extends Context.Service<Edits, {
  /** Gives a call's outstanding chunks the state `waiting`, whether others are before them or not. */
  readonly putAside: (callId: string) => Effect.Effect<void, unknown>
  /** Lets the leases of a call's chunks end this long after the begin of the surrounding transaction. */
  readonly leaseEndsIn: (callId: string, span: Duration.Input) => Effect.Effect<void, unknown>
}>()("effect-sluice/testing/contract/Edits") {}

/** What a store's layer gives each scene. */
export type Given = Stores | Time | Rows | Edits

/** The services a scene may use: those given, and the settings it runs with. */
export type Stage = Given | Settings.Settings
