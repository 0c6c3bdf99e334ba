/**
 * The verbs `persistInside` and `recordInside` over the store in memory, which has none: the steps of the statements in
 * `store/pg/inside.ts` and `recordInside.ts`, in one transaction. Between two steps other fibers may have their turn, as
 * other sessions have.
 *
 * The table refuses some rows, as a check constraint does.
 */
import {
  ChunkStore,
  ChunkStoreError,
  type Inside,
  type InsideHandler,
  type InsideKind,
  type InsideRequest,
  type Recording,
  type RecordInsideRequest
} from "effect-sluice/ChunkStore"
import { type MemoryDatabase, TransactionConflict } from "effect-sluice/store/MemoryDatabase"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { Declaration, Given, Insert } from "../../src/Declaration.ts"
import type { DomainObject } from "../../src/DomainObject.ts"
import { markOf } from "../../src/internal/fingerprint.ts"
import * as Kind from "../../src/Kind.ts"
import type { ServiceCall } from "../../src/ServiceCall.ts"
import { kindsPaused } from "../../src/store/memory/beat.ts"
import * as inserting from "../../src/store/memory/insert.ts"
import { type CallRow, calls, chunkKey, ledger, queue, type QueueRow, seqKey } from "../../src/store/memory/rows.ts"
import type { Access } from "../../src/store/MemoryDatabase.ts"
import { refused } from "./rows.ts"

/** The rules by which the statement decides. Mutants change some of them for the worse: see `insideMutants`. */
export interface Rules {
  /** Whether a chunk needs nothing that only a claim does. */
  readonly isPlain: (row: QueueRow) => boolean
  /** Whether its JSON is what the handler's schema makes. `fingerprint` is of the schema that encoded it, or 0. */
  readonly isEncoded: (row: QueueRow, fingerprint: number, kind: InsideKind) => boolean
  /** Whether its call has what the declaration requires. */
  readonly isGiven: (call: CallRow, declaration: Declaration) => boolean
  /** Which rows the ledger names, for each chunk. */
  readonly named: (objects: ReadonlyArray<ReadonlyArray<DomainObject>>) => ReadonlyArray<ReadonlyArray<DomainObject>>
  /** Whether the ledger is written. */
  readonly isKept: boolean
  /** Whether a failure takes back the rows that were made. */
  readonly isAtomic: boolean
  /** Whether a call of a paused kind is not persisted while it is recorded. */
  readonly mindsPauses: boolean
}

/** The rules of the store on Postgres. */
export const rules: Rules = {
  isPlain: ({ attempts, crashes, leaseToken, orderingKey, position }) =>
    orderingKey === undefined && leaseToken === undefined && crashes === 0 && attempts === 0 && position < 4,
  isEncoded: ({ schemaVersion }, fingerprint, kind) =>
    schemaVersion === kind.version && fingerprint === kind.fingerprint,
  isGiven: ({ context }, { columns }) =>
    columns.every(({ source }) =>
      source._tag !== "Context" || !source.isRequired || typeof context[source.key] === "string"
    ),
  named: (objects) => objects,
  isKept: true,
  isAtomic: true,
  mindsPauses: true
}

const isAsked = (row: QueueRow, { except = [], namespace, own = [] }: InsideRequest): boolean =>
  (namespace === undefined || row.namespace === namespace) &&
  (own.some((kind) => Kind.equals(kind, Kind.of(row)) && row.schemaVersion <= Kind.newestRead(kind)) ||
    !except.some((kind) => Kind.serves(kind, Kind.of(row)) && row.schemaVersion > (kind.above ?? 0)))

const isServed = ({ key, namespace }: QueueRow, { kind, notIn }: InsideRequest): boolean =>
  key.schemaIdentity === kind.schemaIdentity &&
  (kind.namespace === Kind.core ? !notIn.includes(namespace) : namespace === kind.namespace)

/** The first due chunks, as many as the limits allow. */
const lookedAt = (access: Access, request: InsideRequest, now: number) => {
  const free = access.values(queue).filter((row) =>
    row.state === "ready" && (row.leaseUntil === undefined || row.leaseUntil < now) && isAsked(row, request)
  )
  const ready = free.sort((a, b) => a.rank - b.rank || a.seq - b.seq).slice(0, request.limit)
  let total = 0
  const looked = ready.filter(({ bytes }, index) => (total += bytes) <= request.maxBytes || index === 0)
  const ended = ready.length < request.limit && looked.length === ready.length
  const isScheduled = access.values(queue).some((row) =>
    row.state === "scheduled" && row.dueAt <= now && isAsked(row, request) &&
    (ended || row.rank <= (looked.at(-1)?.rank ?? 0))
  )
  return { looked, ended, isScheduled }
}

const givenOf = (row: QueueRow, call: CallRow, data: Given["data"]): Given => ({
  call: {
    ...row.key,
    namespace: row.namespace,
    service: call.service,
    correlationId: call.correlationId,
    orderingKey: row.orderingKey,
    finishedAt: DateTime.makeUnsafe(call.finishedAt ?? row.recordedAt)
  },
  context: call.context,
  data
})

/** A store that persists inside, and whose tables refuse rows. */
export const withInside = (
  store: ChunkStore["Service"],
  db: MemoryDatabase["Service"],
  { isAtomic, isEncoded, isGiven, isKept, isPlain, mindsPauses, named }: Rules = rules
): ChunkStore["Service"] => {
  // by call and place
  const marks = new Map<string, number>()
  const note = ({ callId, outputs }: ServiceCall) => {
    for (const [position, output] of outputs.entries()) marks.set(`${callId} ${position}`, markOf(output))
  }
  const fingerprintOf = ({ key, position }: QueueRow) => marks.get(`${key.callId} ${position}`) ?? 0

  const insertAll = inserting.make(db)
  const insert: Insert = (declaration, given) =>
    // the table is asked, whatever there is to be written
    Effect.andThen(db.use(() => undefined), insertAll(declaration, given)).pipe(
      Effect.tap(() =>
        JSON.stringify(given.map(({ data }) => data)).includes(`"${refused}"`)
          ? Effect.fail(new Error("the row violates a check constraint"))
          : Effect.void
      )
    )

  /** What is written of the chunks: rows, ledger, and the queue without them. */
  const write = Effect.fnUntraced(function*(
    request: InsideHandler,
    mine: ReadonlyArray<{ readonly row: QueueRow; readonly call: CallRow }>,
    now: number
  ) {
    const given = mine.map(({ call, row }) => givenOf(row, call, call.outputs?.[row.position]?.data ?? null))
    const objects = named(yield* insert(request.declaration, given))
    yield* db.use((access) => {
      for (const [index, { row }] of mine.entries()) {
        const { key, namespace, schemaVersion } = row
        if (access.get(ledger, chunkKey(key)) !== undefined) throw new Error("duplicate key in the ledger")
        access.delete(queue, seqKey(row.seq))
        const { handler, handlerVersion } = request
        const line = { key, namespace, schemaVersion, handler, handlerVersion, objects: objects[index] ?? [] }
        if (isKept) access.set(ledger, chunkKey(key), { ...line, persistedAt: now })
      }
    })
    return mine.map(({ call, row }, index) => ({
      key: row.key,
      namespace: row.namespace,
      service: call.service,
      correlationId: call.correlationId,
      context: call.context,
      recordedAt: row.recordedAt,
      objects: objects[index] ?? []
    }))
  })

  const persistInside = Effect.fnUntraced(function*(request: InsideRequest) {
    const now = yield* Clock.currentTimeMillis
    const { ended, isScheduled, looked, mine } = yield* db.use((access) => {
      const found = lookedAt(access, request, now)
      const mine = found.looked.flatMap((row) => {
        const call = access.get(calls, row.key.callId)
        const isMine = isPlain(row) && isServed(row, request) && isEncoded(row, fingerprintOf(row), request.kind) &&
          call?.outputs?.[row.position] !== undefined && isGiven(call, request.declaration)
        // read by its key, it is as if locked: whoever changes it before the commit makes this fail
        return isMine && access.get(queue, seqKey(row.seq)) === row ? [{ row, call }] : []
      })
      return { ...found, mine }
    })
    const chunks = yield* write(request, mine, now)
    const first = looked.find((row) => !mine.some((one) => one.row === row))
    const isKnown = first !== undefined && isPlain(first) && fingerprintOf(first) !== 0
    const left: Inside["left"] = isScheduled
      ? "other"
      : first === undefined
      ? undefined
      : isKnown
      ? { ...Kind.of(first), version: first.schemaVersion, fingerprint: fingerprintOf(first) }
      : "other"
    return { chunks, left, ended, last: ended && left === undefined } satisfies Inside
  })

  const recordInside = Effect.fnUntraced(function*(call: Recording, request: RecordInsideRequest) {
    const isOpen = yield* db.use((access) =>
      access.get(calls, call.callId) === undefined &&
      !(mindsPauses && kindsPaused(access).some((pause) =>
        call.outputs.some(({ schema }) => Kind.covers(pause, { namespace: call.namespace, schemaIdentity: schema }))
      ))
    )
    if (!isOpen) return undefined
    yield* store.record([call])
    const mine = yield* db.use((access) => {
      const own = access.get(calls, call.callId)
      return own === undefined
        ? []
        : access.values(queue).filter(({ key }) => key.callId === call.callId).map((row) => ({ row, call: own }))
    })
    const chunks = yield* write(request, mine, yield* Clock.currentTimeMillis)
    return chunks.map(({ objects }) => objects)
  })

  /** Carries out a step in one transaction, unless the declaration is of more than one table. */
  const inOneCommit = <A>(
    operation: string,
    { declaration: { children, inner } }: InsideHandler,
    step: Effect.Effect<A, unknown>
  ): Effect.Effect<A | undefined, ChunkStoreError> =>
    Effect.gen(function*() {
      if ((yield* db.inTransaction) || children.length > 0 || inner !== undefined) return undefined
      const done = yield* Effect.result(Effect.catchDefect(isAtomic ? db.transaction(step) : step, Effect.fail))
      if (done._tag === "Success") return done.success
      const cause = done.failure
      const transient = cause instanceof TransactionConflict
      return yield* new ChunkStoreError({ operation, transient, reason: String(cause), cause })
    })

  return {
    ...store,
    record: (list) => {
      list.forEach(note)
      return store.record(list)
    },
    recordHeld: (call, hold) => {
      note(call)
      return store.recordHeld(call, hold)
    },
    persist: (token, work, idle, toRecord) => {
      if (toRecord !== undefined) note(toRecord.call)
      return store.persist(token, (transaction) => work({ ...transaction, insert }), idle, toRecord)
    },
    persistInside: (request) => inOneCommit("persistInside", request, persistInside(request)),
    recordInside: (call, request) => {
      note(call)
      return inOneCommit("recordInside", request, recordInside(call, request))
    }
  }
}
