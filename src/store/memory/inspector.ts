/**
 * The port for reading, in memory. Only gauges and displayed lists are limited: all rows are in this process.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { tablesOf } from "../../Declaration.ts"
import {
  Inspector,
  type QueueGauges,
  type Scheduled,
  type StuckChunk,
  type SubscriptionGauges,
  type WorkerView
} from "../../Inspector.ts"
import * as Kind from "../../Kind.ts"
import { mostCounted } from "../../Metrics.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import type { Access } from "../MemoryDatabase.ts"
import { alive } from "./beat.ts"
import { linesOf } from "./eventLog.ts"
import { call, invalid, makeBehind, nextDue, status } from "./read.ts"
import {
  chunkKey,
  dead,
  type FailureRow,
  failures,
  kindKey,
  ledger,
  queue,
  type QueueRow,
  type SubscriptionRow,
  subscriptions,
  type Use,
  workers
} from "./rows.ts"
import { usage } from "./usage.ts"
import { stranded } from "./waiting.ts"

const most = 1000
const minute = 60_000

const isFree = (row: QueueRow, now: number): boolean => row.leaseUntil === undefined || row.leaseUntil < now

/** Chunks that are due and free, whether or not an older chunk blocks them. */
const claimable = (access: Access, now: number): ReadonlyArray<QueueRow> =>
  access.values(queue).filter((row) =>
    (row.state === "ready" && isFree(row, now)) || (row.state === "scheduled" && row.dueAt <= now)
  )

const open = (access: Access) => access.values(dead).filter((letter) => letter.discarded === undefined)

const kindsOf = (rows: ReadonlyArray<QueueRow>): ReadonlyArray<Kind.Kind> =>
  [...new Map(rows.map((row) => [kindKey(Kind.of(row)), Kind.of(row)]))]
    .sort(([a], [b]) => (a < b ? -1 : 1)).map(([, kind]) => kind).slice(0, 100)

const failuresOf = (access: Access, key: ChunkKey): ReadonlyArray<FailureRow> =>
  access.values(failures).filter((one) => chunkKey(one.key) === chunkKey(key)).sort((a, b) => a.id - b.id)

const byText = (of: (row: QueueRow) => ReadonlyArray<string>) => (a: QueueRow, b: QueueRow): number =>
  JSON.stringify(of(a)) < JSON.stringify(of(b)) ? -1 : 1
const bySeq = (a: QueueRow, b: QueueRow): number => a.seq - b.seq

/** Each sort of stuck chunks: which chunks belong to it, and in which order they are listed. */
const sorts = (now: number): ReadonlyArray<{
  readonly why: StuckChunk["why"]
  readonly is: (row: QueueRow) => boolean
  readonly order: (a: QueueRow, b: QueueRow) => number
}> => {
  const ended = (row: QueueRow, ago: number) => row.leaseUntil !== undefined && row.leaseUntil < now - ago
  return [
    {
      why: "scheduled",
      is: (row) => row.state === "scheduled" && row.attempts > 0,
      order: (a, b) => a.dueAt - b.dueAt || bySeq(a, b)
    },
    { why: "expired", is: (row) => row.state === "ready" && ended(row, 5000), order: bySeq },
    {
      why: "held",
      is: (row) =>
        row.state === "ready" && row.leaseUntil !== undefined && row.leaseUntil > now && row.dueAt < now - 5 * minute,
      order: bySeq
    },
    {
      why: "parked",
      is: (row) => row.state === "parked",
      order: byText((row) => [row.namespace, row.key.schemaIdentity])
    },
    {
      why: "waiting",
      is: (row) => row.state === "waiting",
      order: (a, b) => byText((row) => [row.orderingKey ?? "", row.namespace])(a, b) || bySeq(a, b)
    }
  ]
}

/** The most recently seen worker first. */
const workersOf = (access: Access, now: number): ReadonlyArray<WorkerView> =>
  [...access.values(workers)].sort((a, b) => b.beatAt - a.beatAt || (a.id < b.id ? -1 : 1)).map((row) => ({
    id: row.id,
    alive: row.beatAt > now - alive,
    seen: Math.max(0, Math.round((now - row.beatAt) / 1000)),
    serves: row.serves,
    inside: row.inside
  }))

const oldestDue = (access: Access, now: number): number | undefined => {
  const times = claimable(access, now).map((row) => row.dueAt)
  return times.length === 0 ? undefined : (now - Math.min(...times)) / 1000
}

const queueGauges = (access: Access, now: number): QueueGauges => {
  const count = (state: QueueRow["state"]) =>
    Math.min(mostCounted, access.values(queue).filter((row) => row.state === state).length)
  return {
    ready: count("ready"),
    scheduled: count("scheduled"),
    waiting: count("waiting"),
    parked: count("parked"),
    dead: Math.min(mostCounted, open(access).length),
    oldest: oldestDue(access, now)
  }
}

const subscriptionGauges = (access: Access, now: number): ReadonlyArray<SubscriptionGauges> => {
  const gaugesOf = ({ attempts, feed, name, place }: SubscriptionRow): SubscriptionGauges => {
    const unread = linesOf(access, feed, place)
    const age = Math.max(0, now - (unread[0]?.at ?? now)) / 1000
    return { name, attempts, unread: Math.min(mostCounted, unread.length), age }
  }
  return access.values(subscriptions).map(gaugesOf).sort((a, b) => b.age - a.age || (a.name < b.name ? -1 : 1)).slice(
    0,
    100
  )
}

const scheduled = (access: Access, now: number): Scheduled => {
  const failing = access.values(queue).filter((row) => row.state === "scheduled" && row.attempts > 0).sort(bySeq)
  const [oldest] = failing
  const since = oldest === undefined ? undefined : failuresOf(access, oldest.key)[0]?.at
  const latest = failing.flatMap((row) => failuresOf(access, row.key).slice(-1)).sort((a, b) => b.id - a.id)[0]
  return {
    count: Math.min(most, failing.length),
    seconds: since === undefined ? undefined : Math.max(0, Math.round((now - since) / 1000)),
    callId: latest?.key.callId,
    message: latest?.message
  }
}

/** Pairs of a dead letter and a chunk behind it. */
const heldUp = (access: Access) => {
  const letters = open(access).filter(({ orderingKey }) => orderingKey !== undefined)
  const holding = access.values(queue).flatMap((row) =>
    letters.filter((letter) =>
      letter.orderingKey === row.orderingKey && letter.namespace === row.namespace && letter.seq < row.seq
    )
  )
  return {
    count: Math.min(most, holding.length),
    callId: holding.map(({ key }) => key.callId).sort()[0]
  }
}

/** The service in memory. */
export const make = (use: Use, deadBlocksKey: boolean): Inspector["Service"] =>
  Inspector.of({
    call: (callId) => use((access, now) => Option.fromUndefinedOr(call(access, callId, now, deadBlocksKey))),
    callsThatMade: (objects) =>
      use((access) => {
        const wanted = new Set(objects.map(({ id, type }) => JSON.stringify([type, id])))
        const made = access.values(ledger).filter((row) =>
          row.objects.some(({ id, type }) => wanted.has(JSON.stringify([type, id])))
        )
        return [...new Set(made.map(({ key }) => key.callId))]
      }),
    declaration: (declaration) =>
      Effect.succeed(
        tablesOf(declaration).map(({ table }) => `rows of the table ${table} of this MemoryDatabase`).join("\n")
      ),
    status: use(status),
    exactStatus: use(status),
    persistedLately: use((access, now) =>
      Math.min(100_000, access.values(ledger).filter((row) => row.persistedAt > now - minute).length)
    ),
    due: (namespace) =>
      use((access, now) =>
        access.values(queue).filter((row) =>
          row.state === "ready" && row.dueAt <= now && (namespace === undefined || row.namespace === namespace)
        ).length
      ),
    later: (namespace) =>
      use((access, now) => {
        const times = access.values(queue).filter((row) =>
          row.state === "scheduled" && row.dueAt > now && (namespace === undefined || row.namespace === namespace)
        ).map((row) => row.dueAt)
        return { chunks: times.length, next: times.length === 0 ? undefined : DateTime.makeUnsafe(Math.min(...times)) }
      }),
    nextDue: Effect.map(use(nextDue), (at) => Option.map(Option.fromUndefinedOr(at), DateTime.makeUnsafe)),
    stuck: ({ limit, namespace }) =>
      use((access, now) => {
        const behind = makeBehind(access, deadBlocksKey)
        const rows = access.values(queue).filter((row) => namespace === undefined || row.namespace === namespace)
        return sorts(now).flatMap(({ is, order, why }) =>
          rows.filter(is).sort(order).slice(0, limit).map((row): StuckChunk => ({
            why,
            ...row.key,
            namespace: row.namespace,
            attempts: row.attempts,
            crashes: row.crashes,
            orderingKey: row.orderingKey ?? null,
            parkedFor: row.parkedFor ?? null,
            next: why === "scheduled" ? (row.dueAt - now) / 1000 : null,
            due: why === "scheduled" ? null : Math.max(0, now - row.dueAt) / 1000,
            worker: row.leasedBy ?? null,
            behind: behind(row),
            error: failuresOf(access, row.key).at(-1)?.message ?? null
          }))
        )
      }),
    workers: (ids) =>
      use((access, now) => workersOf(access, now).filter(({ id }) => ids === undefined || ids.includes(id))),
    isKnown: (kind) =>
      use((access) =>
        [...access.values(queue), ...access.values(dead)].some(({ key: { schemaIdentity }, namespace }) =>
          Kind.covers(kind, { namespace, schemaIdentity })
        ) || access.values(workers).some(({ serves }) =>
          serves.some((one) =>
            Kind.covers(kind, one) ||
            (one.namespace === Kind.core && Kind.covers({ ...kind, namespace: Kind.wildcard }, one))
          )
        )
      ),
    invalid: (request) => use((access) => invalid(access, request)),
    usage: (request) => use((access, now) => usage(access, request, now)),
    queueGauges: use(queueGauges),
    subscriptionGauges: use(subscriptionGauges),
    vitals: {
      oldestDue: Effect.map(use(oldestDue), (seconds) => seconds === undefined ? undefined : Math.round(seconds)),
      scheduled: use(scheduled),
      staleLeases: use((access, now) =>
        access.values(queue).filter((row) =>
          row.state === "ready" && row.leaseUntil !== undefined && row.leaseUntil < now - 5 * minute
        ).length
      ),
      parkedKinds: use((access) =>
        (["newer-version", "no-handler", "paused"] as const).flatMap((reason) =>
          kindsOf(access.values(queue).filter((row) => row.state === "parked" && row.parkedFor === reason))
            .map((kind) => ({ ...kind, reason }))
        ).sort((a, b) => (kindKey(a) < kindKey(b) ? -1 : kindKey(a) > kindKey(b) ? 1 : 0)).slice(0, 100)
      ),
      unservedKinds: use((access, now) => {
        const served = workersOf(access, now).filter((worker) => worker.alive).flatMap(({ serves }) => serves)
        return kindsOf(claimable(access, now).filter((row) => !served.some((one) => Kind.serves(one, Kind.of(row)))))
      }),
      deadLetters: use((access) => Math.min(most, open(access).length)),
      heldUp: use((access) => deadBlocksKey ? heldUp(access) : { count: 0, callId: undefined }),
      stranded: () =>
        use((access) => {
          const rows = [...stranded(access, deadBlocksKey)].sort(bySeq)
          return { count: rows.length, callId: rows[0]?.key.callId, complete: true }
        }),
      eventLog: Effect.succeed({ _tag: "Ours" })
    }
  })
