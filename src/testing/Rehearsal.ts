/**
 * Rehearses production failures of an application's handlers: workers that die at every boundary, answers that are
 * lost, calls that are delivered twice, batches of every size, batch-mates that leave settings behind. After each of
 * them the application's tables must equal those of one clean run. This finds a handler that writes outside its
 * transaction, that cannot run twice, or whose runs cannot share a transaction as its options promise.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as CallRecorder from "../CallRecorder.ts"
import { ChunkStore, ChunkStoreError } from "../ChunkStore.ts"
import * as DomainEvents from "../DomainEvents.ts"
import * as Drain from "../Drain.ts"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import type { Inspector } from "../Inspector.ts"
import type { ServiceCall } from "../ServiceCall.ts"
import * as Settings from "../Settings.ts"
import * as WakeUp from "../WakeUp.ts"
import { differences, snapshot } from "./difference.ts"
import { registryWithMates, withMates } from "./mates.ts"

/** The application, the calls and the tables of a rehearsal. */
export interface Rehearsal<A, E, R, E2> {
  /**
   * The application, built anew for every scene: its settings, a store, the registry with its handlers, and the
   * services that `tables` needs. On a real database it must provide empty tables each time.
   */
  readonly application: Layer.Layer<ChunkStore | Inspector | HandlerRegistry | Settings.Settings | R, E>
  /** The calls to record and drain. */
  readonly calls: ReadonlyArray<ServiceCall>
  /**
   * Reads the content of the application's tables, in a fixed order. Leave out values that may differ: ids of a
   * sequence, times. Compared by structure, including `Map`, `Set`, `Date`, bytes and bigint; a field that is
   * `undefined` differs from a missing one.
   */
  readonly tables: Effect.Effect<A, E2, R>
}

/** The most differences that an error lists. */
const mostLines = 10

/** Whether each difference is of two whole numbers, as two ids of a sequence. */
const areNumbers = (lines: ReadonlyArray<string>): boolean =>
  lines.length > 0 && lines.every((line) => / is "?\d+n?"?, not "?\d+n?"?$/.test(line))

/** The tables after a scene are not those of a clean run. */
export class NotExactlyOnce extends Schema.TaggedError<NotExactlyOnce>()("NotExactlyOnce", {
  /** The event of the scene, in words. */
  scene: Schema.String,
  /** A frequent cause. */
  hint: Schema.String,
  expected: Schema.Unknown,
  found: Schema.Unknown
}) {
  override get message() {
    const lines = differences(this.expected, this.found)
    const more = lines.length - mostLines
    return [
      `when ${this.scene}, the tables are not those of a clean run. ${this.hint}${
        areNumbers(lines)
          ? " Only numbers differ: if a sequence gives them, as for ids, that is no fault; leave them out of `tables`"
          : ""
      }`,
      ...lines.slice(0, mostLines),
      ...(more > 0 ? [`and ${more} more`] : [])
    ].join("\n")
  }
}

/** The clean run did not persist all calls: fix that first. */
export class RehearsalFailed extends Schema.TaggedError<RehearsalFailed>()("RehearsalFailed", {
  reason: Schema.String
}) {
  override get message() {
    return `the clean run failed: ${this.reason}`
  }
}

const outside = "Does a handler write outside its transaction?"
const apart =
  "Does what a run reads depend on the runs before it in the same transaction? See the handler's option isolation"

/** Where a worker dies in its n-th transaction. */
const boundaries = {
  "its worker died before the handlers ran": "before",
  "its worker died after the handlers ran, before the commit": "within",
  "its worker died after the commit, before it heard of it": "after"
} as const
type Boundary = typeof boundaries[keyof typeof boundaries]

const died = new ChunkStoreError({ operation: "rehearsal", transient: false, reason: "the worker died" })

/** A store whose caller dies once, at a boundary of its `nth` transaction. */
const deadly = (store: ChunkStore["Service"], boundary: Boundary, nth: number, count: { transactions: number }) =>
  ({
    ...store,
    persist: (token, work, ...rest) => {
      if (++count.transactions !== nth) return store.persist(token, work, ...rest)
      switch (boundary) {
        case "before":
          return Effect.fail(died)
        case "within":
          return store.persist(token, (transaction) => Effect.andThen(work(transaction), Effect.fail(died)), ...rest)
        case "after":
          return Effect.andThen(store.persist(token, work, ...rest), Effect.fail(died))
      }
    }
  }) satisfies ChunkStore["Service"]

const record = (calls: ReadonlyArray<ServiceCall>) =>
  Effect.flatMap(
    CallRecorder.CallRecorder,
    (recorder) => Effect.flatMap(recorder.recordMany(calls), Effect.forEach(Effect.fromResult))
  )

// a rehearsal has no pauses, so its drains need no hints
const services = Layer.merge(Drain.layer, CallRecorder.layer).pipe(
  Layer.provide([DomainEvents.layer, WakeUp.layerLocal])
)

/**
 * Plays every scene and returns their number, or fails with the first whose tables differ. Time passes by itself, also in
 * a test whose clock does not move (`it.effect`): a drain that waits would wait forever.
 *
 * ```ts
 * it.effect("the handlers of the chat laboratory", () => Effect.gen(function*() {
 *   yield* exactlyOnce({
 *     application: layerMemory(registry).pipe(Layer.provideMerge(repositories)),
 *     calls: [yield* sampleCall(PatientReply, { text: "It hurts." }, { context: { simulationId: "knee" } })],
 *     tables: Effect.flatMap(Messages, (messages) => messages.list)
 *   })
 * }))
 * ```
 */
export const exactlyOnce = Effect.fn("Rehearsal.exactlyOnce")(function*<A, E, R, E2>(
  { application, calls, tables }: Rehearsal<A, E, R, E2>
) {
  /** One scene, on its own application. */
  const scene = <B, F, S>(play: Effect.Effect<B, F, S>) =>
    Effect.provide(play, Layer.fresh(application), { local: true })
  const inApplication = <B, F, S>(play: Effect.Effect<B, F, S>) => Effect.provide(play, services, { local: true })
  const drain = Effect.flatMap(Drain.Drain, (it) => it.untilEmpty)
  // a copy, because a list outside the application changes in later scenes
  const seen = Effect.map(tables, snapshot)

  const clean = yield* scene(Effect.gen(function*() {
    const count = { transactions: 0 }
    const counted = Layer.effect(ChunkStore, Effect.map(ChunkStore, (store) => deadly(store, "before", 0, count)))
    const report = yield* Effect.andThen(record(calls), drain).pipe(
      inApplication,
      Effect.provide(counted, { local: true })
    )
    if (report.retried + report.dead + report.parked > 0) {
      return yield* new RehearsalFailed({
        reason: `${report.retried} chunks failed, ${report.dead} are dead, ${report.parked} have no handler`
      })
    }
    return { tables: yield* seen, transactions: count.transactions }
  }))

  const compare = (name: string, hint = outside) => (found: A) =>
    differences(clean.tables, found).length === 0
      ? Effect.void
      : Effect.fail(new NotExactlyOnce({ scene: name, hint, expected: clean.tables, found }))

  let scenes = 0
  for (const [name, boundary] of Object.entries(boundaries)) {
    for (let nth = 1; nth <= clean.transactions; nth++) {
      scenes++
      yield* scene(Effect.gen(function*() {
        const dying = Layer.effect(
          ChunkStore,
          Effect.map(ChunkStore, (store) => deadly(store, boundary, nth, { transactions: 0 }))
        )
        yield* Effect.andThen(record(calls), Effect.exit(drain)).pipe(
          inApplication,
          Effect.provide(dying, { local: true })
        )
        // another worker claims the rest
        yield* inApplication(drain)
        return yield* seen
      })).pipe(Effect.flatMap(compare(`${name} (transaction ${nth})`)))
    }
  }
  const once = Effect.andThen(record(calls), drain)
  yield* scene(Effect.gen(function*() {
    yield* inApplication(once)
    yield* inApplication(once)
    return yield* seen
  })).pipe(Effect.flatMap(compare("the calls were delivered twice")))
  yield* scene(Effect.andThen(
    Effect.updateService(inApplication(once), Settings.Settings, (settings) => ({ ...settings, batchSize: 1 })),
    seen
  )).pipe(Effect.flatMap(compare("each chunk was a batch of its own", apart)))
  yield* scene(Effect.gen(function*() {
    const registry = Layer.effect(HandlerRegistry, registryWithMates)
    const beside = Effect.andThen(record(withMates(calls)), drain)
    yield* Effect.provide(inApplication(beside), registry, { local: true })
    return yield* seen
  })).pipe(Effect.flatMap(compare("the batches had mates that use savepoints and settings", apart)))
  return scenes + 3
}, (rehearsal) => Effect.provideService(rehearsal, Clock.Clock, Clock.Clock.defaultValue()))
