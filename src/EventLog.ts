/**
 * The ledger read as a log of what was created, by durable subscribers that each remember their place. The port of
 * `Subscription`.
 *
 * Laws every store keeps:
 *
 * - **Nothing is skipped.** Entries are read in an order in which what becomes visible later stands later, whatever
 *   numbers its transaction drew. What an unfinished transaction may still put in between is not read yet.
 * - **One reader at a time.** A subscription is taken under a lease, and only its token's holder moves the place.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { LeaseLost, StoreError } from "./ChunkStore.ts"
import type { DomainObjectCreated } from "./DomainObject.ts"

/** A place in the log: opaque, ordered by the store alone. */
export interface Place {
  readonly xact: string
  readonly seq: string
}

/** One line of the ledger as an entry: all that one chunk created, maybe nothing. */
export interface LogEntry {
  readonly place: Place
  readonly events: ReadonlyArray<DomainObjectCreated>
}

/**
 * Where a new subscription begins: with all there ever was, or with what is created from now on. Nothing that is created
 * later is missed; a little of what was created just before may come as well.
 */
export type From = "beginning" | "now"

/** A subscription taken: entries after its place, in order, at least one. */
export interface Taken {
  readonly token: string
  /** Where it stood. */
  readonly place: Place
  readonly entries: ReadonlyArray<LogEntry>
  /** Failures in a row at the first entry. */
  readonly attempts: number
}

/** A subscription, for people. */
export const SubscriptionStatus = Schema.Struct({
  name: Schema.String,
  /** Failures in a row at its place. */
  attempts: Schema.Int,
  lastError: Schema.NullOr(Schema.String),
  /** When it may go on, after a failure. */
  dueAt: Schema.DateTimeUtcFromString,
  updatedAt: Schema.DateTimeUtcFromString,
  /** Entries not yet handled, counted up to 10,000. */
  behind: Schema.Int
})
/** A subscription, for people. */
export interface SubscriptionStatus extends Schema.Schema.Type<typeof SubscriptionStatus> {}

/** The port. See the module's laws. */
export class EventLog extends Context.Service<EventLog, {
  /** Makes a subscription when it is new. `from` counts only then. */
  readonly open: (name: string, from: From) => Effect.Effect<void, StoreError>
  /**
   * Takes a subscription under a lease. None when there is nothing to read, another holds it, it waits after a failure,
   * or nobody has opened it.
   */
  readonly take: (
    name: string,
    options: { readonly limit: number; readonly lease: Duration.Duration }
  ) => Effect.Effect<Option.Option<Taken>, StoreError>
  /** Moves the place on, or leaves it where it is, and keeps the lease for its length. Moving on forgets failures. */
  readonly advance: (
    name: string,
    token: string,
    place: Place,
    lease: Duration.Duration
  ) => Effect.Effect<void, StoreError | LeaseLost>
  /** Gives the subscription back: at once, or after a failure for `delay`. Changes nothing when it is another's. */
  readonly release: (
    name: string,
    token: string,
    failure?: { readonly message: string; readonly delay: Duration.Duration }
  ) => Effect.Effect<void, StoreError>
  readonly list: Effect.Effect<ReadonlyArray<SubscriptionStatus>, StoreError>
  /** Forgets a subscription and its place. False when there was none. */
  readonly remove: (name: string) => Effect.Effect<boolean, StoreError>
}>()("effect-sluice/EventLog") {}
