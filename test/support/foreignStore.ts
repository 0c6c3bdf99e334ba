/**
 * A store that somebody else wrote, as a program of the packed package: the store in memory behind a wrapper, played through
 * the contract without a test runner. With an argument, the wrapper is wrong: it forgets what was recorded before.
 */
import { Clock, Console, Duration, Effect, Layer, Result } from "effect"
import { ChunkStore } from "effect-sluice"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import type { Stores } from "effect-sluice/store/Stores"
import { contract, Edits, Rows, Time } from "effect-sluice/testing/contract"
import { TestClock } from "effect/testing"

/** The store under test. */
const wrapped = (isWrong: boolean) =>
  Layer.effect(
    ChunkStore.ChunkStore,
    Effect.map(ChunkStore.ChunkStore, (store): ChunkStore.ChunkStore["Service"] => ({
      ...store,
      record: (calls) =>
        Effect.map(store.record(calls), (outcomes) => isWrong ? outcomes.map(() => "recorded" as const) : outcomes)
    }))
  ).pipe(Layer.provideMerge(MemoryStore.layerStorage)) satisfies Layer.Layer<Stores, never, unknown>

// what the contract asks for beside it
const names = MemoryDatabase.table<string>("names")
const rows = Effect.map(MemoryDatabase.MemoryDatabase, (db) =>
  Rows.of({
    add: (text) => Effect.flatMap(db.next("name"), (n) => db.use((access) => access.set(names, String(n), text))),
    list: db.use((access) => access.values(names)),
    swallowError: Effect.void,
    transaction: db.transaction
  }))

interface QueueRow {
  readonly seq: number
  readonly key: { readonly callId: string }
  readonly state: string
  readonly leaseUntil: number | undefined
}
const queue = MemoryDatabase.table<QueueRow>("sluice.chunk_queue")
const edits = Effect.map(MemoryDatabase.MemoryDatabase, (db) => {
  const edit = (callId: string, change: Partial<QueueRow>) =>
    db.use((access) => {
      for (const row of access.values(queue)) {
        if (row.key.callId === callId) access.set(queue, String(row.seq), { ...row, ...change })
      }
    })
  return Edits.of({
    putAside: (callId) => edit(callId, { state: "waiting" }),
    leaseEndsIn: (callId, span) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (now) => edit(callId, { leaseUntil: now + Duration.toMillis(Duration.fromInputUnsafe(span)) })
      )
  })
})

const store = wrapped(process.argv.length > 2).pipe(
  Layer.provideMerge(Layer.effect(Rows, rows)),
  Layer.provideMerge(Layer.effect(Edits, edits)),
  Layer.provideMerge(MemoryDatabase.layer),
  Layer.merge(Layer.succeed(Time, Time.of({ pass: TestClock.adjust })))
)

const program = Effect.gen(function*() {
  const results = yield* Effect.forEach(
    contract,
    ({ run }) => Effect.result(run(store)).pipe(Effect.provide(TestClock.layer()))
  )
  const failures = results.flatMap((result) => Result.isFailure(result) ? [result.failure.message] : [])
  yield* Console.log(JSON.stringify({ scenes: results.length, failures }))
})

Effect.runPromise(program)
