/**
 * Sluice as in `sluice.ts`, with a store that is watched from outside: how long claims take, how large they are, and
 * what is committed. It reads the clock twice for each claim.
 */
import {
  CallRecorder,
  ChunkStore,
  DomainEvents,
  Drain,
  DrainWorker,
  HandlerRegistry,
  ServiceCall,
  Settings
} from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type Figures, median } from "../harness/rounds.ts"
import type { Call } from "../work.ts"
import { Chatlab, client, perRecord, toCall } from "./sluice.ts"
import type { Options, System } from "./system.ts"
import { type Tally, tally } from "./tally.ts"

/** What is watched. */
interface Watch {
  readonly tally: Tally
  /** Milliseconds of claims that found something, since the worker was started; of a long run the last thousand. */
  readonly claimMillis: Array<number>
  /** Chunks claimed; each is claimed once unless something went wrong. */
  claimed: number
  /** In one claim, since the worker was started. */
  mostChunks: number
  /** Transactions of handlers, committed or not. */
  transactions: number
}

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const began = performance.now()
    return Effect.map(effect, (value) => ({ value, millis: performance.now() - began }))
  })

/** The store, watched. */
const watching = (watch: Watch) =>
  Layer.effect(
    ChunkStore.ChunkStore,
    Effect.map(ChunkStore.ChunkStore, (store) =>
      ChunkStore.ChunkStore.of({
        ...store,
        claim: (request) =>
          Effect.map(timed(store.claim(request)), ({ millis, value: claim }) => {
            if (claim.chunks.length === 0) return claim
            watch.claimMillis.push(millis)
            if (watch.claimMillis.length > 1000) watch.claimMillis.shift()
            watch.claimed += claim.chunks.length
            watch.mostChunks = Math.max(watch.mostChunks, claim.chunks.length)
            return claim
          }),
        persist: (token, work) =>
          Effect.suspend(() => {
            let lines = 0
            watch.transactions++
            return Effect.tap(
              store.persist(token, (transaction) =>
                Effect.tap(work(transaction), (persisted) =>
                  Effect.sync(() => {
                    lines = persisted.length
                  }))),
              () => Effect.sync(() => watch.tally.done(lines))
            )
          }),
        persistInside: (request) =>
          Effect.suspend(() => {
            watch.transactions++
            return Effect.tap(
              store.persistInside(request),
              (inside) => Effect.sync(() => watch.tally.done(inside?.chunks.length ?? 0))
            )
          }),
        settle: (token, settlements) =>
          Effect.tap(store.settle(token, settlements), (settled) =>
            Effect.sync(() =>
              watch.tally.failed(
                settled.filter(({ settlement: { _tag } }) => _tag === "Retry" || _tag === "Bury").length
              )
            ))
      }))
  )

const figuresOf = ({ claimMillis, claimed, mostChunks, tally, transactions }: Watch): Figures => ({
  ...tally.figures(),
  claimMillis: median(claimMillis),
  claimed,
  mostChunks,
  transactions
})

/** Log messages are formatted as in production, and then discarded. */
const logger = Logger.layer([Logger.map(Logger.formatJson, () => {})])

/** How a watched Sluice differs from the one in `sluice.ts`. */
export interface Way {
  readonly handlers: typeof perRecord
  /** Makes the call to record; `n` is its number. */
  readonly toCall?: (call: Call, n: number, options: Options) => ServiceCall.ServiceCall
  /** The default settings: batches of 100, 2 in flight, a poll every 5 seconds. */
  readonly byDefault?: boolean
}

const withKey = (call: Call, n: number, { keys }: Options): ServiceCall.ServiceCall => ({
  ...toCall(call),
  ...(keys === undefined ? {} : { orderingKey: `key-${n % keys}` })
})

/** Opens a watched Sluice. */
export const watched = (way: Way): System["open"] => async (url, options) => {
  const { batch = 500, inFlight = 3 } = options
  const watch: Watch = { tally: tally(), claimMillis: [], claimed: 0, mostChunks: 0, transactions: 0 }
  const scope = Scope.makeUnsafe()
  const base = Layer.mergeAll(
    CallRecorder.layer,
    HandlerRegistry.layer(Chatlab).pipe(Layer.provide(way.handlers)),
    watching(watch)
  ).pipe(
    Layer.provideMerge(Layer.merge(PgStore.layer, DomainEvents.layer)),
    Layer.provideMerge(client(url, way.byDefault === true ? 10 : inFlight + 2)),
    Layer.provideMerge(logger),
    Layer.provideMerge(Settings.layer(way.byDefault === true ? {} : { batchSize: batch, inFlight }))
  )
  const context = await Effect.runPromise(Layer.buildWithScope(base, scope))
  const recorder = Context.get(context, CallRecorder.CallRecorder)
  const store = Context.get(context, ChunkStore.ChunkStore)
  const toWorker = DrainWorker.layer(
    way.byDefault === true || options.ownSchedule === true ? {} : { schedule: Schedule.spaced("1 second"), hints: true }
  ).pipe(Layer.provide(Drain.layer), Layer.fresh)

  let filled = 0
  let working: Scope.Closeable | undefined
  const start = async () => {
    watch.claimMillis.length = 0
    watch.mostChunks = 0
    working = Scope.makeUnsafe()
    const started = Effect.gen(function*() {
      // an application that listens to what was created
      const events = yield* (yield* DomainEvents.DomainEvents).subscribe
      yield* Effect.forkScoped(Stream.runDrain(events))
      yield* Layer.build(toWorker)
    })
    await Effect.runPromise(started.pipe(Scope.provide(working), Effect.provideContext(context)))
  }
  const stop = async () => {
    if (working !== undefined) await Effect.runPromise(Scope.close(working, Exit.void))
    working = undefined
  }
  const claim = timed(store.claim({
    worker: "nobody",
    limit: batch,
    maxBytes: 16 * 1024 * 1024,
    lease: Duration.minutes(1)
  }))
  return {
    fill: (calls) => {
      const all = calls.map((call) => (way.toCall ?? withKey)(call, filled++, options))
      return Effect.runPromise(Effect.asVoid(recorder.recordMany(all)))
    },
    drain: async (count) => {
      const reached = watch.tally.more(count)
      await start()
      await reached
      await stop()
    },
    close: async () => {
      await stop()
      await Effect.runPromise(Scope.close(scope, Exit.void))
    },
    worker: {
      start,
      stop,
      figures: () => figuresOf(watch),
      claimNothing: async (times) => {
        const millis: Array<number> = []
        for (let n = 0; n < times; n++) {
          const { millis: took, value } = await Effect.runPromise(claim)
          if (value.chunks.length > 0) throw new Error(`there was something to claim: ${value.chunks.length} chunks`)
          millis.push(took)
        }
        return { claimMillis: median(millis) }
      }
    }
  }
}

/** Handlers for one chunk, watched. */
export const sluiceWatched: System = {
  about: "as sluice-per-record, its store watched",
  open: watched({ handlers: perRecord })
}
