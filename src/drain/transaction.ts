/**
 * Runs one batch in one transaction: the runs of its handler, then ledger rows and settlement. Either all of it
 * commits, or nothing.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ChunkStore } from "../ChunkStore.ts"
import type { Committed, Setting } from "./batch.ts"
import { timeRun } from "./observe/metrics.ts"
import type { Prepared } from "./prepare.ts"
import { runInTurn } from "./runInTurn.ts"
import { runMany } from "./runMany.ts"
import { chains, runTogether } from "./runTogether.ts"
import * as Supervisor from "./supervisor.ts"

/**
 * Runs a batch in a transaction and commits it. On failure everything is rolled back: with `BatchFailed` when handlers
 * failed, with `BatchSuffered` when the database failed a handler, with `NotShared` when runs cannot share a
 * transaction, or with the store's errors.
 */
export const persistBatch = Effect.fnUntraced(function*(batch: ReadonlyArray<Prepared>, setting: Setting) {
  const store = yield* ChunkStore
  const { handler } = batch[0]!
  const isTogether = setting.rule === "together"
  // runs that go together share one limit, but chunks of one key run one after another: the longest chain counts
  const turns = isTogether ? Math.max(...chains(batch).map(({ length }) => length)) : 1
  const supervisor = yield* Supervisor.make(Duration.times(setting.timeout, turns))
  const runs = handler.run._tag === "Many" ? runMany : isTogether ? runTogether : runInTurn
  let committed: Committed = { persisted: [], left: new Map(), notRun: [] }
  yield* store.persist(
    setting.held.claim.token,
    (transaction) =>
      runs({ ...setting, handler, batch, transaction, supervisor, isTransient: store.isTransient }).pipe(
        timeRun(handler.name, ({ left }) => left.size === 0),
        Effect.map((done) => {
          committed = done
          return done.persisted
        }),
        // the transaction of the running batch wins over the client that the handlers' layer was built with
        Effect.updateContext((current: Context.Context<never>) => Context.merge(handler.services, current))
      ),
    setting.timeout
  )
  return committed
}, Effect.scoped)
