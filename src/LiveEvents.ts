/**
 * The objects that are created by any process, live: a stream that follows the ledger. For pages that show what happens, by
 * server-sent events or web sockets, in any number of instances. `DomainEvents` has only the objects of this process's own
 * drain. Work that must happen, once for all instances, belongs in a `Subscription`.
 *
 * What a stream promises:
 *
 * - **Every event, once.** From its beginning to its end it emits each event that is created, skips none and repeats none.
 *   It has no buffer that could overflow: it reads when it is asked for more, so a slow reader is late but loses nothing.
 * - **In order.** Events come in the order in which their commits became visible, which is the same for all readers. On
 *   Postgres what is younger than the oldest transaction still writing, in any database of the server, is not read yet: one
 *   left open for an hour delays events by an hour.
 * - **It begins now**, when it is run, or after the event whose `id` is given. What was created just before it began may
 *   come as well. For a page that loads a state and then follows it: take {@link now}, then load, then {@link tail} after
 *   it. What was created while loading comes, and some of it is in the state already.
 * - **A reconnect misses nothing**, if it gives the `id` of the last event that arrived (a browser's `EventSource` sends it
 *   as `Last-Event-ID`), to any instance and after any time: the ledger is not pruned. Without an id what was created in
 *   between is missing. An id that is ahead of this log counts as now. Ids grant no right and are no secret: a client that
 *   can send an id can ask for the whole log, so filter by what the client may see.
 * - **Outages pass.** While the database is unreachable the stream waits, then continues at its place; this is logged once.
 *   An error that is not transient ends the stream.
 * - **One gap.** An entry of more than `EventLog.mostEntryBytes`, which only a row edited manually can have, cannot be read;
 *   it is skipped with a warning.
 *
 * Between hints of other processes (`WakeUp`) it looks by itself. A look is one read of an index and writes nothing, but
 * each stream looks for itself: an instance with many clients shares one (`Stream.share`), and replays to a client that
 * reconnects by a stream of its own.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { ChunkStoreError } from "./ChunkStore.ts"
import type { DomainObjectCreated } from "./DomainObject.ts"
import { EventLog, type Page, type Place } from "./EventLog.ts"
import { quote } from "./internal/quote.ts"
import { printKey } from "./ServiceCall.ts"
import { Settings } from "./Settings.ts"
import { WakeUp } from "./WakeUp.ts"

/** An event, and its place in the log. */
export interface LiveEvent {
  /** Pass it as `after` to continue after this event. Letters, digits and `-` only. */
  readonly id: string
  /** What was created. */
  readonly event: DomainObjectCreated
}

/** A text that was given as an event's id is not one. */
export class EventIdInvalid extends Schema.TaggedError<EventIdInvalid>()("EventIdInvalid", { id: Schema.String }) {
  override get message() {
    return `${quote(this.id)} is not the id of an event: leave it out to begin now`
  }
}

/** How the log is followed. */
export interface Options {
  /** The `id` of the event after which it begins. Default: now. */
  readonly after?: string | undefined
  /** Only the events it holds for. Default: all. */
  readonly filter?: ((event: DomainObjectCreated) => boolean) | undefined
  /** How often it looks without having been woken. Default `SLUICE_POLL_INTERVAL`. */
  readonly pollInterval?: Duration.Input | undefined
}

/** A place, and how many events of the entry behind it were given already. */
interface Cursor {
  readonly place: Place
  readonly given: number
}

const print = ({ seq, xact }: Place, given: number): string => `${xact}-${seq}-${given}`

// what the tables' columns hold
const largestXact = 2n ** 64n - 1n
const largestSeq = 2n ** 63n - 1n

const parse = (id: string): Effect.Effect<Cursor, EventIdInvalid> => {
  const [, xact = "", seq = "", given = ""] = /^(\d{1,20})-(\d{1,19})-(\d{1,9})$/.exec(id) ?? []
  return xact === "" || BigInt(xact) > largestXact || BigInt(seq) > largestSeq
    ? Effect.fail(new EventIdInvalid({ id }))
    : Effect.succeed({ place: { xact, seq }, given: Number(given) })
}

/** The id to begin after, so that all that is created from now on comes. */
export const now: Effect.Effect<string, ChunkStoreError, EventLog> = Effect.map(
  EventLog.use((log) => log.now),
  (place) => print(place, 0)
)

/** What a page holds behind a cursor, and where the next page begins. */
const eventsOf = ({ entries, unreadable }: Page, { given, place }: Cursor): readonly [Array<LiveEvent>, Cursor] => {
  const events: Array<LiveEvent> = []
  let before = place
  let skip = given
  for (const entry of entries) {
    // the id says how many events behind a place were given, so that one may go on within an entry
    entry.events.forEach((event, index) => {
      const id = index + 1 < entry.events.length ? print(before, index + 1) : print(entry.place, 0)
      if (index >= skip) events.push({ id, event })
    })
    before = entry.place
    skip = 0
  }
  return [
    events,
    unreadable === undefined
      ? { place: before, given: skip }
      : { place: unreadable.place, given: 0 }
  ]
}

const firstGap = Duration.millis(50)

/**
 * Follows the log, from now on or after an event. See the module's laws. It never ends by itself.
 *
 * ```ts
 * LiveEvents.tail({ after: request.headers["last-event-id"], filter: DomainEvents.from(PatientReply) }).pipe(
 *   Stream.map(({ event, id }) => `id: ${id}\ndata: ${JSON.stringify(event.object)}\n\n`)
 * )
 * ```
 */
export const tail = (options: Options = {}): Stream.Stream<
  LiveEvent,
  ChunkStoreError | EventIdInvalid,
  EventLog | WakeUp | Settings
> =>
  Stream.unwrap(Effect.gen(function*() {
    const log = yield* EventLog
    const settings = yield* Settings
    const { filter = () => true } = options
    const pollInterval = Duration.fromInputUnsafe(options.pollInterval ?? settings.pollInterval)
    const read = { limit: settings.batchSize, maxBytes: settings.batchBytes }
    const heard = yield* Latch.make(false)
    const hints = yield* (yield* WakeUp).hear("events")
    yield* Effect.forkScoped(Stream.runForEach(hints, () => heard.open))

    let isAway = false
    let gap = firstGap
    // what a hint told of may not be readable yet, because an older transaction still writes: so the gaps grow slowly
    const rest = Effect.gen(function*() {
      const hinted = yield* Effect.raceFirst(Effect.as(heard.await, true), Effect.as(Effect.sleep(gap), false))
      gap = hinted ? firstGap : Duration.min(Duration.times(gap, 2), pollInterval)
    })
    const away = Effect.fnUntraced(function*(error: ChunkStoreError) {
      if (!error.transient) return yield* error
      if (!isAway) yield* Effect.logWarning(`live events could not be read; reading continues: ${error.message}`)
      isAway = true
      return undefined
    })
    const look = Effect.fnUntraced(function*(cursor: Cursor) {
      // closed before looking: a hint that comes meanwhile is not lost
      yield* heard.close
      // A read goes on to its end when its reader leaves: to cut it off would cost the pool a connection for each closed
      // page.
      const reading = yield* Effect.forkDetach(log.read(cursor.place, read))
      const page = yield* Effect.catch(Fiber.join(reading), away)
      if (page !== undefined) isAway = false
      if (page === undefined || (page.entries.length === 0 && page.unreadable === undefined)) {
        yield* rest
        return [[], Option.some(cursor)] as const
      }
      gap = firstGap
      if (page.unreadable !== undefined) {
        const { bytes, key } = page.unreadable
        yield* Effect.logWarning(
          `live events skip ${printKey(key)}: its entry of ${bytes} bytes is too large to be read`
        )
      }
      const [events, next] = eventsOf(page, cursor)
      return [events.filter(({ event }) => filter(event)), Option.some(next)] as const
    })
    const begin = options.after === undefined
      ? Effect.map(log.now, (place): Cursor => ({ place, given: 0 }))
      : parse(options.after)
    return Stream.paginate(yield* begin, look)
  }))
