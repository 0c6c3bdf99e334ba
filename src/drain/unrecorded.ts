/**
 * A call that is not recorded yet, as a claim: its handlers run in the transaction that records it.
 *
 * The drain's engine works on it by a store that wraps the real one. `persist` records the call at the end of the
 * handlers' transaction. Every other verb that changes chunks records it first, in a commit of its own; so a failure is
 * charged, and a chunk is parked, as always. When the handlers take long, the call is recorded beside their transaction.
 *
 * A call with an ordering key is recorded before its handlers run: claims see only committed rows, and a later call of the
 * key must wait for this one.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import { type ChunkStore, type ChunkStoreError, type ClaimedChunk, LeaseLost, type Recording } from "../ChunkStore.ts"
import { callJson } from "../internal/callJson.ts"
import { outage } from "../internal/outage.ts"
import * as Kind from "../Kind.ts"
import type { ServiceCall } from "../ServiceCall.ts"

type Store = ChunkStore["Service"]

/** A chunk of a call that is not recorded yet. */
class UnrecordedChunk implements ClaimedChunk {
  /** Below all real ones until it is recorded; then its own. */
  seq: bigint
  readonly key: ClaimedChunk["key"]
  readonly namespace: string
  readonly schemaVersion: number
  readonly orderingKey: string | undefined
  readonly attempts = 0
  readonly crashes = 0
  readonly loneCrashes = 0
  readonly recordedAt: DateTime.Utc
  readonly call: ClaimedChunk["call"]
  readonly #output: string
  constructor(call: ServiceCall, index: number, output: string, shared: ClaimedChunk["call"], now: DateTime.Utc) {
    const { part = "", schema, version } = call.outputs[index]!
    this.seq = BigInt(index - call.outputs.length)
    this.key = { callId: call.callId, schemaIdentity: schema, part }
    this.namespace = call.namespace
    this.orderingKey = call.orderingKey
    this.schemaVersion = version
    this.recordedAt = now
    this.call = shared
    this.#output = output
  }
  /** Read from the text that is recorded: a handler is given the same, whenever it runs. */
  get payload() {
    // the text of an output that was checked
    const { data } = JSON.parse(this.#output) as { readonly data: Schema.Json }
    return { data }
  }
}

const chunksOf = (call: ServiceCall, now: DateTime.Utc): ReadonlyArray<UnrecordedChunk> => {
  const { context, facts, input, outputs } = callJson(call)
  const shared: ClaimedChunk["call"] = {
    service: call.service,
    correlationId: call.correlationId ?? call.callId,
    get context() {
      return JSON.parse(context)
    },
    get input() {
      return input === "" ? null : JSON.parse(input)
    },
    get facts() {
      return facts === "" ? {} : JSON.parse(facts)
    },
    finishedAt: call.finishedAt ?? now,
    trace: call.trace,
    outputs: call.outputs.length
  }
  return outputs.map((output, index) => new UnrecordedChunk(call, index, output, shared, now))
}

/** How long the end of the handlers' transaction waits for a recording beside it that is under way. */
const longestAside = Duration.millis(250)

/** What a claim of an unrecorded call is made of. */
export interface Options {
  readonly call: Recording
  readonly token: string
  readonly worker: string
  readonly lease: Duration.Duration
  /** How long the call stays unrecorded at most. */
  readonly within: Duration.Duration
  /** The paused kinds, if the store was asked for them. If not, it is asked before a chunk is run or settled. */
  readonly paused: ReadonlyArray<Kind.Kind> | undefined
}

/** Makes the store by which the engine works on an unrecorded call, for as long as the scope is open. */
export const make = Effect.fnUntraced(function*(store: Store, options: Options) {
  const { call, paused, token, within } = options
  const chunks = chunksOf(call, yield* DateTime.now)
  const context = yield* Effect.context<never>()
  const deadline = (yield* Clock.currentTimeMillis) + Duration.toMillis(within)
  // one at a time decides who has recorded the call: a transaction from its end on, or this
  const turn = Semaphore.makeUnsafe(1)
  let state: "unrecorded" | "held" | "others" = "unrecorded"
  let isAsideUnderWay = false
  let isCertain = true
  let mayNotRun = false
  const isVoid = () => mayNotRun || state === "others"
  // whether the store was asked which kinds are paused
  let isChecked = paused !== undefined

  const numbered = (seqs: ReadonlyArray<bigint>) => {
    for (const [index, chunk] of chunks.entries()) chunk.seq = seqs[index] ?? chunk.seq
  }
  const hold = Effect.suspend(() => {
    const wasCertain = isCertain
    isCertain = false
    return Effect.map(store.recordHeld(call, options), (seqs) => {
      isCertain = wasCertain
      if (seqs !== undefined) numbered(seqs)
      return seqs !== undefined
    })
  })
  /** Records the call in a commit of its own. What the database refuses is left to the verb `record`, which says why. */
  const recordAside = turn.withPermits(1)(Effect.suspend(() => {
    if (state !== "unrecorded") return Effect.void
    isAsideUnderWay = true
    return hold.pipe(
      Effect.catchIf((error) => !error.transient, () => Effect.succeed(false)),
      Effect.map((isHeld) => {
        state = isHeld ? "held" : "others"
      }),
      Effect.ensuring(Effect.sync(() => {
        isAsideUnderWay = false
      }))
    )
  }))

  let timer: Fiber.Fiber<unknown, unknown> | undefined
  const startTimer = Effect.map(Clock.currentTimeMillis, (now) => {
    timer = Effect.runForkWith(context)(
      Effect.delay(Effect.retry(recordAside, { schedule: outage }), Math.max(0, deadline - now))
    )
  })
  /** What is under way may end, unless it waits for the connection of the handlers' own transaction. */
  const stopTimer = Effect.suspend(() => {
    if (timer === undefined) return Effect.void
    const stopped = Fiber.interrupt(timer)
    return isAsideUnderWay ? Effect.andThen(Effect.timeoutOption(Fiber.await(timer), longestAside), stopped) : stopped
  })
  const isFirst = call.orderingKey !== undefined || Duration.isZero(within)
  yield* Effect.acquireRelease(isFirst ? Effect.void : startTimer, () => stopTimer)

  /** Asks for the pauses if no transaction of handlers has: a chunk that does not decode is settled before any begins. */
  const check = Effect.suspend(() =>
    isChecked ? Effect.void : Effect.map(store.isNew(call.callId), (answer) => {
      isChecked = true
      mayNotRun = call.outputs.some(({ schema: schemaIdentity }) =>
        answer.paused.some((pause) => Kind.covers(pause, { namespace: call.namespace, schemaIdentity }))
      )
      if (mayNotRun && state === "unrecorded") state = "others"
    })
  )
  const whenHeld = <A>(verb: Effect.Effect<ReadonlyArray<A>, ChunkStoreError>) =>
    Effect.flatMap(
      Effect.andThen(check, recordAside),
      () => state === "held" && !mayNotRun ? verb : Effect.succeed<ReadonlyArray<A>>([])
    )
  const lost = () => new LeaseLost({ claimed: chunks.length, held: 0 })

  const persist: Store["persist"] = (_, work, idle) =>
    Effect.suspend(() => {
      if (isVoid()) return Effect.fail(lost())
      let isTurn = false
      let isRecorded = false
      /** The end of the handlers' transaction. A client of one connection could not record beside it. */
      const atEnd = Effect.andThen(stopTimer, turn.take(1)).pipe(
        Effect.flatMap(() => {
          isTurn = true
          if (state === "others") return Effect.fail(lost())
          if (state === "held") return Effect.undefined
          isCertain = false
          return Effect.succeed({
            call,
            hold: options,
            recorded: (seqs: ReadonlyArray<bigint>) => {
              numbered(seqs)
              isRecorded = true
            }
          })
        }),
        Effect.uninterruptible
      )
      const ended = Effect.suspend(() => isTurn ? turn.release(1) : Effect.void)
      const notNew = () => {
        mayNotRun = true
      }
      const checked: typeof work = (transaction) => {
        isChecked = true
        return work(transaction)
      }
      // the call may have been recorded beside a transaction that did not begin
      const isOpen = state === "unrecorded" || !isChecked
      return store.persist(token, checked, idle, isOpen ? { call, notNew, atEnd } : undefined).pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            if (isRecorded) state = "held"
          })
        ),
        Effect.tapError((error) =>
          Effect.sync(() => {
            // another session has recorded the call, or its kind is paused
            if (error instanceof LeaseLost && state === "unrecorded") state = "others"
          })
        ),
        Effect.onError(() => Effect.andThen(stopTimer, startTimer)),
        Effect.ensuring(ended)
      )
    })

  return {
    /** Whether this has recorded the call. */
    isRecorded: () => state === "held",
    /** Whether nothing of the call may be run or settled here: others have recorded it, or one of its kinds is paused. */
    isVoid,
    /** Whether the token may hold chunks that this does not know of, because an answer of the database was lost. */
    mayHold: () => state !== "held" && !isCertain,
    store: {
      ...store,
      claim: () =>
        Effect.map(isFirst ? recordAside : Effect.void, () => ({
          token,
          chunks: state === "others" ? [] : chunks,
          paused: paused ?? [],
          inOneCommit: state === "unrecorded",
          isVoid
        })),
      giveUp: () => Effect.void,
      // it records nothing: it could wait for the connection of the handlers' transaction, which would wait for it
      renew: (_, held, lease, alone) =>
        Effect.suspend(() =>
          state === "held"
            ? store.renew(token, held, lease, alone)
            : Effect.succeed(state === "unrecorded" ? held : [])
        ),
      settle: (_, settlements) => whenHeld(store.settle(token, settlements)),
      persist
    } satisfies Store
  }
})
