/**
 * The port of `Subscription`: the ledger read as a log of created objects, by durable subscribers that each keep their
 * own place; and the ends of calls, read as a log in the same way.
 *
 * Laws every store keeps:
 *
 * - **Nothing is skipped.** An entry that becomes visible later is also later in the order, whatever number its
 *   transaction has. Entries after a place that an unfinished transaction may still fill are not read yet.
 * - **One reader at a time.** A subscription is taken under a lease, and only the holder of its token moves the place.
 * - **A failing entry is found by halving.** After a failure of several entries `take` returns the first half of them,
 *   then the first half of the rest, and so on. The number of suspects is stored beside the place, so the search
 *   continues in the next process. A lease that ran out counts as a failure of all entries taken.
 * - **A place is valid in the cluster it was taken in.** When the tables move to another cluster, whose transaction ids
 *   differ, nothing is read before the log is rebased: see `rebase`.
 * - **One end for each call.** A call that is recorded while a subscription to ends exists has one entry, when none of its
 *   chunks is outstanding any more. It is written after the commit that settles the last one, or at a worker's next beat.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { CallEnded } from "./CallEnded.ts"
import type { ChunkStoreError, LeaseLost } from "./ChunkStore.ts"
import type { DomainObjectCreated } from "./DomainObject.ts"
import { word } from "./internal/escape.ts"
import { ChunkKey, printKey } from "./ServiceCall.ts"

/** A place in the log: opaque, ordered by the store alone. */
export interface Place {
  /** The id of the transaction that wrote the entry, a decimal number. */
  readonly xact: string
  /** The number of the entry among those of its transaction, a decimal number. */
  readonly seq: string
}

/** What a subscription receives: `objects` that were created, or `calls` that ended. */
export const Feed = Schema.Literals(["objects", "calls"])
/** What a subscription receives: `objects` that were created, or `calls` that ended. */
export type Feed = typeof Feed.Type

/** The key of a call's end, where an entry is named by a chunk's: no chunk has an empty schema. */
export const keyOfEnd = (callId: string): ChunkKey => ({ callId, schemaIdentity: "", part: "" })

/** The feed of an entry with this key. */
export const feedOf = (key: ChunkKey): Feed => key.schemaIdentity === "" ? "calls" : "objects"

/** The name of an entry as one line of text: a chunk's key, or the end of a call. */
export const printEntry = (key: ChunkKey): string =>
  feedOf(key) === "calls" ? `the end of call ${word(key.callId)}` : printKey(key)

/** An entry: a ledger row, which is everything that one chunk created, possibly nothing; or the end of a call. */
export interface LogEntry {
  /** Where the entry stands. */
  readonly place: Place
  /** An event for each row that the chunk's handler created. */
  readonly events: ReadonlyArray<DomainObjectCreated>
  /** The end of a call, of the feed `calls`. */
  readonly ended?: CallEnded | undefined
}

/**
 * Where a new subscription begins: at the beginning of the log, or with objects created from now on. It misses nothing
 * created later; a few events from just before may be included.
 */
export type From = "beginning" | "now"

/**
 * The most bytes of an entry that can be read: the default limit of a Postgres client for one message (16 MiB), less
 * room for the rest of the row.
 */
export const mostEntryBytes = 15 * 1024 * 1024

/**
 * An entry is too large to be read: it would not fit into one message of the database's client. The entries before it
 * are returned; then it stops the subscription until it is skipped (`EventLog.skip`).
 */
export class EntryTooLarge extends Schema.TaggedError<EntryTooLarge>()("EntryTooLarge", {
  subscription: Schema.String,
  key: ChunkKey,
  bytes: Schema.Int
}) {
  override get message() {
    return `what was created of ${
      printEntry(this.key)
    } takes ${this.bytes} bytes with its call's context, and an entry of ` +
      `more than ${mostEntryBytes} cannot be read: \`sluice subscriptions skip\` skips it`
  }
}

/** How a subscription is taken. */
export interface Take {
  /** What it receives. Default `objects`. A subscription to another feed is not taken. */
  readonly feed?: Feed | undefined
  /** The most entries. */
  readonly limit: number
  /** The most bytes of all entries; one that is larger is taken alone. */
  readonly maxBytes: number
  /** How long it is held without a renewal. */
  readonly lease: Duration.Duration
  /** The name of the reader, for display. */
  readonly reader: string
}

/** A subscription taken: entries after its place, in order. */
export interface Taken {
  /** The token under which it is held. Advancing and releasing need it. */
  readonly token: string
  /** Its place when it was taken. */
  readonly place: Place
  /** At least one, unless the first cannot be read. */
  readonly entries: ReadonlyArray<LogEntry>
  /** Why the first entry cannot be read. */
  readonly unreadable: EntryTooLarge | undefined
  /** Failures in a row of the first entry alone. */
  readonly attempts: number
  /**
   * How many entries from the place on contain the failing one; `entries` are the first of them. 0: no failure is
   * known.
   */
  readonly suspects: number
}

/** The progress of a subscription. */
export interface Progress {
  /** The place of the last entry that is done. */
  readonly place: Place
  /** How many entries after this place are suspects, or taken and not settled. */
  readonly suspects: number
}

/** How a subscription is given back. */
export interface Release {
  /** As in {@link Progress}. After a failure, the number of entries that may be the cause: 1 means the first entry. */
  readonly suspects: number
  /** The failure. The delay applies to a single suspect; the halves of several are retried immediately. */
  readonly failure?: { readonly message: string; readonly delay: Duration.Duration } | undefined
}

/** The status of a subscription, for display. */
export const SubscriptionStatus = Schema.Struct({
  name: Schema.String,
  feed: Feed,
  /** Consecutive failures of the entry that is next. */
  attempts: Schema.Int,
  /** The number of entries among which the failing one is searched for; 0 when none fails. */
  suspects: Schema.Int,
  lastError: Schema.NullOr(Schema.String),
  /** When it may continue after a failure. */
  dueAt: Schema.DateTimeUtcFromString,
  updatedAt: Schema.DateTimeUtcFromString,
  /** The current reader, and when its lease ends. */
  reader: Schema.NullOr(Schema.Struct({ id: Schema.String, until: Schema.DateTimeUtcFromString })),
  /** Entries not yet handled, counted up to 10,000. */
  behind: Schema.Int,
  /** The first of them: its chunk, and when it was persisted; for the end of a call {@link keyOfEnd}, and when it ended. */
  next: Schema.NullOr(Schema.Struct({ key: ChunkKey, persistedAt: Schema.DateTimeUtcFromString })),
  /** How many entries were skipped manually. */
  skipped: Schema.Int
})
/** The status of a subscription, for display. */
export interface SubscriptionStatus extends Schema.Schema.Type<typeof SubscriptionStatus> {}

/** The result of a rebase. */
export const Rebased = Schema.Struct({
  /**
   * `ours`: the log belongs to this cluster, nothing was changed. `adopted`: it was moved from another cluster, and its
   * numbers continue here. `raised`: its numbers were above this cluster's, whose new entries now come after them.
   */
  outcome: Schema.Literals(["ours", "adopted", "raised"]),
  /** Ledger rows persisted in this cluster before the rebase: they now come after all rows that were moved here. */
  moved: Schema.Int,
  /** How many of these may have been delivered before, and are delivered again. */
  repeated: Schema.Int
})
/** The result of a rebase. */
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
  /** The entries that were read. Empty at the end of the log, and when the first is too large. */
  readonly entries: ReadonlyArray<LogEntry>
  /** The next entry, when it comes first and is too large to be read: see {@link EntryTooLarge}. */
  readonly unreadable: { readonly place: Place; readonly key: ChunkKey; readonly bytes: number } | undefined
}

/** The port. See the module's laws. */
export class EventLog extends Context.Service<EventLog, {
  /** Creates a subscription when it is new. `from` and `feed` (default `objects`) count only then. Returns its feed. */
  readonly open: (name: string, from: From, feed?: Feed) => Effect.Effect<Feed, ChunkStoreError>
  /**
   * Takes a subscription under a lease. None when there is nothing to read, another reader holds it, it waits after a
   * failure, or it was never opened.
   */
  readonly take: (name: string, options: Take) => Effect.Effect<Option.Option<Taken>, ChunkStoreError>
  /** Advances the place, or leaves it where it is, and extends the lease. Advancing clears failures. */
  readonly advance: (
    name: string,
    token: string,
    progress: Progress,
    lease: Duration.Duration
  ) => Effect.Effect<void, ChunkStoreError | LeaseLost>
  /** Gives the subscription back. Changes nothing when another reader holds it. */
  readonly release: (name: string, token: string, release: Release) => Effect.Effect<void, ChunkStoreError>
  /** The place from which on all is read that is created from now on, and maybe a little of what was created just before. */
  readonly now: Effect.Effect<Place, ChunkStoreError>
  /**
   * Reads entries of the feed `objects` after a place. Takes and changes nothing: any number of readers may do so at once.
   */
  readonly read: (after: Place, options: Read) => Effect.Effect<Page, ChunkStoreError>
  /** All subscriptions, by name. */
  readonly list: Effect.Effect<ReadonlyArray<SubscriptionStatus>, ChunkStoreError>
  /**
   * Resets the place, to {@link From} or before everything persisted since a time, and clears failures. The current
   * reader loses its lease. False when there is no such subscription.
   */
  readonly reset: (name: string, to: From | DateTime.Utc) => Effect.Effect<boolean, ChunkStoreError>
  /**
   * Skips the entry of a chunk, with all its events, and records the reason. The current reader loses its lease. False
   * when that entry is not the next one of the subscription.
   */
  readonly skip: (name: string, key: ChunkKey, reason: string) => Effect.Effect<boolean, ChunkStoreError>
  /** Deletes a subscription and its place. False when there was none. */
  readonly remove: (name: string) => Effect.Effect<boolean, ChunkStoreError>
  /**
   * Makes a log that was moved from another cluster readable in this one: moved entries keep their order and are read
   * before new ones, places stay valid, nothing is skipped. `take` rebases automatically where only a restore can have
   * happened; otherwise it fails with the obstacle, and a person calls this.
   */
  readonly rebase: Effect.Effect<Rebased, ChunkStoreError>
}>()("effect-sluice/EventLog") {}
