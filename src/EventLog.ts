/**
 * The ledger read as a log of what was created, by durable subscribers that each remember their place. The port of
 * `Subscription`.
 *
 * Laws every store keeps:
 *
 * - **Nothing is skipped.** Entries are read in an order in which what becomes visible later stands later, whatever
 *   numbers its transaction drew. What an unfinished transaction may still put in between is not read yet.
 * - **One reader at a time.** A subscription is taken under a lease, and only its token's holder moves the place.
 * - **A failure is searched for by halves.** After a failure of several entries `take` hands over the first half of them,
 *   then the first half of what is left of them, and so on. How many are under suspicion is remembered beside the place,
 *   so that the search goes on in the next process. A lease that ran out counts as a failure of all that was handed over.
 * - **A place holds in the cluster it was taken in.** When the tables come to another cluster, whose transaction ids begin
 *   elsewhere, nothing is read before the log is rebased: see `rebase`.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { ChunkStoreError, LeaseLost } from "./ChunkStore.ts"
import type { DomainObjectCreated } from "./DomainObject.ts"
import { ChunkKey, printKey } from "./ServiceCall.ts"

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

/**
 * The most bytes one entry may have to be read: what a Postgres client takes as one message by default (16 MiB), less room
 * for the rest of the row.
 */
export const mostEntryBytes = 15 * 1024 * 1024

/**
 * An entry is too large to be read: it would not fit into one message of the database's client. What stands before it is
 * handed over; it stops the subscription until it is passed over (`EventLog.skip`).
 */
export class EntryTooLarge extends Schema.TaggedError<EntryTooLarge>()("EntryTooLarge", {
  subscription: Schema.String,
  key: ChunkKey,
  bytes: Schema.Int
}) {
  override get message() {
    return `what was created of ${
      printKey(this.key)
    } takes ${this.bytes} bytes with its call's context, and an entry of ` +
      `more than ${mostEntryBytes} cannot be read: \`sluice subscriptions skip\` passes over it`
  }
}

/** How a subscription is taken. */
export interface Take {
  /** The most entries. */
  readonly limit: number
  /** The most bytes of all entries; one that is larger is taken alone. */
  readonly maxBytes: number
  readonly lease: Duration.Duration
  /** Who reads, for people. */
  readonly reader: string
}

/** A subscription taken: entries after its place, in order. */
export interface Taken {
  readonly token: string
  /** Where it stood. */
  readonly place: Place
  /** At least one, unless the first cannot be read. */
  readonly entries: ReadonlyArray<LogEntry>
  /** Why the first entry cannot be read. */
  readonly unreadable: EntryTooLarge | undefined
  /** Failures in a row of the first entry alone. */
  readonly attempts: number
  /** So many entries from the place on, `entries` the first of them, hold one that fails. 0: none is known. */
  readonly suspects: number
}

/** How far a subscription has come. */
export interface Progress {
  readonly place: Place
  /** How many entries behind this place are under suspicion, or handed over and not settled. */
  readonly suspects: number
}

/** How a subscription is given back. */
export interface Release {
  /** As of {@link Progress}. After a failure, how many entries it may have been: 1 is the first one and no other. */
  readonly suspects: number
  /** What failed. The delay counts for a single suspect; the halves of several are tried at once. */
  readonly failure?: { readonly message: string; readonly delay: Duration.Duration } | undefined
}

/** A subscription, for people. */
export const SubscriptionStatus = Schema.Struct({
  name: Schema.String,
  /** Failures in a row of the entry it stands before. */
  attempts: Schema.Int,
  /** Entries among which one that fails is searched for; 0 when none is. */
  suspects: Schema.Int,
  lastError: Schema.NullOr(Schema.String),
  /** When it may go on, after a failure. */
  dueAt: Schema.DateTimeUtcFromString,
  updatedAt: Schema.DateTimeUtcFromString,
  /** Who reads it now, and until when that is to be believed. */
  reader: Schema.NullOr(Schema.Struct({ id: Schema.String, until: Schema.DateTimeUtcFromString })),
  /** Entries not yet handled, counted up to 10,000. */
  behind: Schema.Int,
  /** The first of them: its chunk, and when it was persisted. */
  next: Schema.NullOr(Schema.Struct({ key: ChunkKey, persistedAt: Schema.DateTimeUtcFromString })),
  /** How many entries people let it pass over. */
  skipped: Schema.Int
})
/** A subscription, for people. */
export interface SubscriptionStatus extends Schema.Schema.Type<typeof SubscriptionStatus> {}

/** What a rebase came to. */
export const Rebased = Schema.Struct({
  /**
   * `ours`: the log is this cluster's, nothing was to be done. `adopted`: it came from another cluster, and its numbers go
   * on here. `raised`: its numbers were above this cluster's, which now come behind them.
   */
  outcome: Schema.Literals(["ours", "adopted", "raised"]),
  /** Lines persisted in this cluster before the rebase: they now stand behind all that came along. */
  moved: Schema.Int,
  /** Of these, how many may have been told before, and then come again. */
  repeated: Schema.Int
})
/** What a rebase came to. */
export interface Rebased extends Schema.Schema.Type<typeof Rebased> {}

/** How much of the log is read at once. */
export interface Read {
  /** The most entries. */
  readonly limit: number
  /** The most bytes of all entries; one that is larger is read alone. */
  readonly maxBytes: number
}

/** Entries after a place, in order. */
export interface Page {
  readonly entries: ReadonlyArray<LogEntry>
  /** The next entry, when it comes first and is too large to be read: see {@link EntryTooLarge}. */
  readonly unreadable: { readonly place: Place; readonly key: ChunkKey; readonly bytes: number } | undefined
}

/** The port. See the module's laws. */
export class EventLog extends Context.Service<EventLog, {
  /** Makes a subscription when it is new. `from` counts only then. */
  readonly open: (name: string, from: From) => Effect.Effect<void, ChunkStoreError>
  /**
   * Takes a subscription under a lease. None when there is nothing to read, another holds it, it waits after a failure,
   * or nobody has opened it.
   */
  readonly take: (name: string, options: Take) => Effect.Effect<Option.Option<Taken>, ChunkStoreError>
  /** Moves the place on, or leaves it where it is, and keeps the lease for its length. Moving on forgets failures. */
  readonly advance: (
    name: string,
    token: string,
    progress: Progress,
    lease: Duration.Duration
  ) => Effect.Effect<void, ChunkStoreError | LeaseLost>
  /** Gives the subscription back. Changes nothing when it is another's. */
  readonly release: (name: string, token: string, release: Release) => Effect.Effect<void, ChunkStoreError>
  /** The place from which on all is read that is created from now on, and maybe a little of what was created just before. */
  readonly now: Effect.Effect<Place, ChunkStoreError>
  /** Reads entries after a place. Takes and changes nothing: any number of readers may do so at once. */
  readonly read: (after: Place, options: Read) => Effect.Effect<Page, ChunkStoreError>
  readonly list: Effect.Effect<ReadonlyArray<SubscriptionStatus>, ChunkStoreError>
  /**
   * Sets the place anew, to where {@link From} says or before all that was persisted since a time, and forgets failures.
   * Whoever reads loses the lease. False when there is no such subscription.
   */
  readonly reset: (name: string, to: From | DateTime.Utc) => Effect.Effect<boolean, ChunkStoreError>
  /**
   * Passes over the entry of a chunk, with all its events, and remembers why. Whoever reads loses the lease. False when that
   * is not the entry the subscription stands before.
   */
  readonly skip: (name: string, key: ChunkKey, reason: string) => Effect.Effect<boolean, ChunkStoreError>
  /** Forgets a subscription and its place. False when there was none. */
  readonly remove: (name: string) => Effect.Effect<boolean, ChunkStoreError>
  /**
   * Makes a log that came from another cluster readable in this one: what came along keeps its order and is read before
   * what is new, places stay where they are, nothing is skipped. `take` does it by itself where only a restore can have
   * happened; otherwise it fails with what is in the way, and a person calls this.
   */
  readonly rebase: Effect.Effect<Rebased, ChunkStoreError>
}>()("effect-sluice/EventLog") {}
