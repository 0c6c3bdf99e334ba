/**
 * Runs one batch in one transaction: the runs of its handler, then ledger rows and settlement. Either all of it
 * commits, or nothing.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ChunkStore, type Persisted, type Transaction } from "../ChunkStore.ts"
import { DomainEvents } from "../DomainEvents.ts"
import type { DomainObjectCreated } from "../DomainObject.ts"
import type { Handler } from "../Handler.ts"
import { announce } from "../internal/announce.ts"
import type { Committed, SettingOf } from "./batch.ts"
import { BatchFailed } from "./failure.ts"
import type { Held } from "./held.ts"
import { timeRun } from "./observe/metrics.ts"
import { Outcome } from "./Outcome.ts"
import { type Prepared, rounds } from "./prepare.ts"
import { runInTurn } from "./runInTurn.ts"
import { runMany } from "./runMany.ts"
import { chains, runTogether } from "./runTogether.ts"
import * as Supervisor from "./supervisor.ts"

/**
 * Runs a batch in a transaction and commits it. On failure everything is rolled back: with `BatchFailed` when handlers
 * failed, with `BatchSuffered` when the database failed a handler, with `NotShared` when runs cannot share a
 * transaction, or with the store's errors. `onBegun` is called when the transaction has begun.
 */
export const persistBatch = Effect.fnUntraced(function*(
  batch: ReadonlyArray<Prepared>,
  settingOf: SettingOf,
  onBegun: () => void
) {
  const store = yield* ChunkStore
  const events = yield* DomainEvents
  const { held, timeout } = settingOf(batch[0]!.handler)
  const shares = yield* Effect.forEach(sharesOf(batch), (share) => prepareShare(share, settingOf))
  let committed: Committed = nothing
  yield* store.persist(
    held.claim.token,
    (transaction) => {
      onBegun()
      return Effect.flatMap(
        inSequence(shares.map(({ members, run }) => ({ members, run: run(transaction) }))),
        (done) => {
          committed = done
          // by the store: this could be interrupted between its commit and its return
          return Effect.as(transaction.afterCommit(noteAndAnnounce(held, events, done.persisted)), done.persisted)
        }
      )
    },
    shares.map((share) => share.timeout).reduce((a, b) => Duration.max(a, b), timeout)
  )
  return committed
}, Effect.scoped)

/** Notes and announces what is committed. */
const noteAndAnnounce = (held: Held, events: DomainEvents["Service"], persisted: ReadonlyArray<Persisted>) =>
  Effect.suspend(() => {
    for (const line of persisted) held.end(line.chunk, Outcome.Persisted({ persisted: line }))
    return announce(() => events.publish(eventsOf(persisted)))
  })

const nothing: Committed = { persisted: [], failedUnsent: new Map(), notRun: [] }

/** The chunks of each handler: nearly always all. */
const sharesOf = (batch: ReadonlyArray<Prepared>): ReadonlyArray<ReadonlyArray<Prepared>> =>
  batch.every(({ handler }) => handler === batch[0]!.handler) ? [batch] : rounds(batch)

/** One handler's share of a transaction, as long as the scope is open. */
const prepareShare = Effect.fnUntraced(function*(members: ReadonlyArray<Prepared>, settingOf: SettingOf) {
  const store = yield* ChunkStore
  const { handler } = members[0]!
  const setting = settingOf(handler)
  const isTogether = setting.rule === "together"
  // runs that go together share one limit, but chunks of one key run one after another: the longest chain counts
  const turns = isTogether ? Math.max(...chains(members).map(({ length }) => length)) : 1
  const supervisor = yield* Supervisor.make(Duration.times(setting.timeout, turns))
  const runs = runsOf(handler, isTogether)
  return {
    members,
    timeout: setting.timeout,
    run: (transaction: Transaction) =>
      runs({ ...setting, handler, batch: members, transaction, supervisor, isTransient: store.isTransient }).pipe(
        timeRun(handler.name, ({ failedUnsent }) => failedUnsent.size === 0),
        // the transaction of the running batch wins over the client that the handlers' layer was built with
        Effect.updateContext((current: Context.Context<never>) => Context.merge(handler.services, current))
      )
  }
})

const runsOf = (handler: Handler, isTogether: boolean) =>
  handler.run._tag === "Many" ? runMany : isTogether ? runTogether : runInTurn

interface Share<E> {
  readonly members: ReadonlyArray<Prepared>
  readonly run: Effect.Effect<Committed, E>
}

/** Runs the shares one after another. A failure includes the results of the shares before it, as if all were one. */
const inSequence = <E>(shares: ReadonlyArray<Share<E>>): Effect.Effect<Committed, E> => {
  const [only] = shares
  return only !== undefined && shares.length === 1 ? only.run : Effect.gen(function*() {
    let all = nothing
    for (const [index, { run }] of shares.entries()) {
      const before = all
      const behind = shares.slice(index + 1).flatMap(({ members }) => members)
      const done = yield* Effect.mapError(
        run,
        (error) => error instanceof BatchFailed ? joined(before, error, behind) : error
      )
      all = {
        persisted: [...all.persisted, ...done.persisted],
        failedUnsent: new Map([...all.failedUnsent, ...done.failedUnsent]),
        notRun: [...all.notRun, ...done.notRun]
      }
    }
    return all
  })
}

const joined = <E extends BatchFailed>(before: Committed, error: E, behind: ReadonlyArray<Prepared>): E =>
  new BatchFailed({
    failed: error.failed,
    maybeHarmed: error.maybeHarmed,
    failedUnsent: new Map([...before.failedUnsent, ...error.failedUnsent]),
    notRun: [...before.notRun, ...error.notRun, ...behind],
    asIfAlone: error.asIfAlone && before.persisted.length === 0
    // the same error with more in it
  }) as E

/** The events of the persisted chunks, in the order of recording. */
const eventsOf = (persisted: ReadonlyArray<Persisted>): ReadonlyArray<DomainObjectCreated> =>
  [...persisted].sort((a, b) => a.chunk.seq < b.chunk.seq ? -1 : 1).flatMap(({ chunk, handler, objects }) => {
    if (objects.length === 0) return []
    const { call: { context, correlationId, service }, key, namespace } = chunk
    return objects.map((object) => ({ object, key, namespace, handler, service, correlationId, context }))
  })
