/**
 * The log of what was created, in a database that moves from one cluster to another, by a copy that lags behind: its
 * numbers begin elsewhere in the new one, what was taken in the old one is nobody's any more, and a subscription's place
 * is as old as the copy. Nothing is read until the places are rebased.
 *
 * The lines of the ledger themselves are not moved. A table in memory is in the order of its commits, whatever their
 * numbers, so a line of the new cluster cannot come to stand before one of the old, and no line is missing in the copy. What
 * Postgres' transaction ids do is for test/subscription/anotherCluster.test.ts, with real servers.
 */
import { ChunkStoreError, LeaseLost } from "effect-sluice/ChunkStore"
import type { EventLog, Place, Rebased } from "effect-sluice/EventLog"
import { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { type SubscriptionRow, subscriptions } from "../../src/store/memory/rows.ts"

interface Cluster {
  /** Which one it is, from 0. */
  readonly id: number
  /** What its numbers are higher by than the lines of the ledger. */
  readonly base: number
  /** The base of the cluster before it. */
  readonly cameFrom: number
  /** Whether the places are still those of the cluster before it. */
  readonly isForeign: boolean
}

/** A log that can move. */
export interface MovingLog {
  readonly log: EventLog["Service"]
  /** Copies the places, and moves to a cluster that has this copy. */
  readonly move: Effect.Effect<void>
}

/** Moves the database that is simulated: see {@link MovingLog}. */
export class Move extends Context.Service<Move, Effect.Effect<void>>()("test/Move") {}

const changePlaces = (db: MemoryDatabase["Service"], change: (row: SubscriptionRow) => SubscriptionRow) =>
  db.use((access) => {
    for (const row of access.values(subscriptions)) access.set(subscriptions, row.name, change(row))
  })

/** What the numbers of the first cluster are higher by. The next one's may be lower by so much, and are never higher. */
const highest = 40

/** The log of a database that may move. */
export const makeMoving = (log: EventLog["Service"], db: MemoryDatabase["Service"]): MovingLog => {
  let cluster: Cluster = { id: 0, base: highest, cameFrom: highest, isForeign: false }
  const printed = (place: Place): Place => ({ xact: String(cluster.id), seq: String(Number(place.seq) + cluster.base) })
  const line = (place: Place): Place => ({ xact: "0", seq: String(Number(place.seq) - cluster.base) })

  const rebase = Effect.gen(function*() {
    if (!cluster.isForeign) return { outcome: "ours", moved: 0, repeated: 0 } satisfies Rebased
    const { cameFrom } = cluster
    yield* changePlaces(db, (row) => ({ ...row, place: row.place - (cameFrom - cluster.base) }))
    cluster = { ...cluster, isForeign: false }
    return { outcome: "raised", moved: 0, repeated: 0 } satisfies Rebased
  })

  return {
    log: {
      ...log,
      open: (name, from) => Effect.andThen(rebase, log.open(name, from)),
      take: Effect.fnUntraced(function*(name, options) {
        // where it cannot be done by itself it takes a person, who comes some time later
        if (cluster.isForeign && (yield* Random.nextBoolean)) {
          return yield* new ChunkStoreError({
            operation: "take",
            transient: false,
            reason: "the log is another cluster's"
          })
        }
        yield* rebase
        const taken = yield* log.take(name, options)
        return Option.map(taken, (found) => ({
          ...found,
          // a token is of the cluster it was given in
          token: `${cluster.id} ${found.token}`,
          place: printed(found.place),
          entries: found.entries.map((entry) => ({ ...entry, place: printed(entry.place) }))
        }))
      }),
      advance: Effect.fnUntraced(function*(name, token, progress, lease) {
        const [id, own = ""] = token.split(" ")
        if (id !== String(cluster.id)) return yield* new LeaseLost({ claimed: 1, held: 0 })
        yield* log.advance(name, own, { ...progress, place: line(progress.place) }, lease)
      }),
      release: Effect.fnUntraced(function*(name, token, release) {
        const [id, own = ""] = token.split(" ")
        if (id === String(cluster.id)) yield* log.release(name, own, release)
      }),
      rebase
    },
    move: Effect.gen(function*() {
      const copied = yield* db.use((access) => access.values(subscriptions))
      yield* Effect.sleep(yield* Random.nextIntBetween(0, 3000))
      const base = yield* Random.nextIntBetween(0, highest)
      const cameFrom = cluster.base
      // the places that come along are the old cluster's numbers
      yield* changePlaces(db, (row) => {
        const place = copied.find(({ name }) => name === row.name)?.place ?? 0
        const free = { token: undefined, leaseUntil: undefined, leasedBy: undefined, suspects: 0 }
        return { ...row, ...free, place: place + cameFrom - base }
      })
      cluster = { id: cluster.id + 1, base, cameFrom, isForeign: true }
    })
  }
}
