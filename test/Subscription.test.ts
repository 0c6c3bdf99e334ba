/**
 * Durable subscriptions: at least once, in order, one at a time, each with its own troubles only.
 */
import { describe, expect, it } from "@effect/vitest"
import { EventLog, Subscription } from "effect-sluice"
import type { DomainObjectCreated } from "effect-sluice/DomainObject"
import * as Settings from "effect-sluice/Settings"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { call, record, settle } from "./contract/operators/dialogues.ts"

const idOf = (event: DomainObjectCreated) => event.key.callId

/** Records and persists, each call in a commit of its own. */
const persist = (...ids: ReadonlyArray<string>) =>
  Effect.forEach(ids, (id) => Effect.andThen(record(call(id)), settle("persisted")), { discard: true })

/** A handler that tells what it is given. */
const listener = Effect.map(Queue.unbounded<string>(), (heard) => ({
  heard,
  handle: (event: DomainObjectCreated) => Queue.offer(heard, idOf(event)),
  next: (count: number) => Effect.replicateEffect(Queue.take(heard), count)
}))

const statusOf = (name: string) =>
  EventLog.EventLog.use((log) => Effect.map(log.list, (all) => all.find((one) => one.name === name)))

/** Lets forked fibers come to rest without letting time pass. */
const settled = TestClock.adjust(0)

const memory = (settings: Partial<Settings.Values> = {}) =>
  Layer.provideMerge(MemoryStore.layer, Settings.layer(settings))

describe("a subscription", () => {
  it.effect("is handed all there ever was, and then what comes, as soon as it is there", () =>
    Effect.gen(function*() {
      const { handle, next } = yield* listener
      yield* persist("a", "b")
      yield* Subscription.make("media", handle)
      expect(yield* next(2)).toEqual(["a", "b"])
      // the clock stands still: only a hint can have woken it
      yield* settled
      yield* persist("c")
      expect(yield* next(1)).toEqual(["c"])
      yield* persist("d", "e")
      expect(yield* next(2)).toEqual(["d", "e"])
    }).pipe(Effect.provide(memory())))

  it.effect("looks by itself when no hint comes", () =>
    Effect.gen(function*() {
      const { handle, heard, next } = yield* listener
      yield* Subscription.make("media", handle, { pollInterval: "1 minute" })
      yield* TestClock.adjust("1 hour")
      const log = yield* EventLog.EventLog
      yield* persist("a")
      expect(yield* next(1)).toEqual(["a"])
      // nobody hints at this
      yield* log.remove("media")
      yield* log.open("media", "beginning")
      yield* settled
      expect(yield* Queue.size(heard)).toBe(0)
      yield* TestClock.adjust("1 minute")
      expect(yield* next(1)).toEqual(["a"])
    }).pipe(Effect.provide(memory())))

  it.effect("goes on at its place when it is run again, from now on when that was asked for", () =>
    Effect.gen(function*() {
      const { handle, next } = yield* listener
      yield* persist("a")
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Subscription.make("media", handle)
        expect(yield* next(1)).toEqual(["a"])
      }))
      yield* persist("b")
      const late = yield* listener
      yield* Subscription.make("late", late.handle, { from: "now" })
      yield* Subscription.make("media", handle)
      yield* persist("c")
      expect(yield* next(2)).toEqual(["b", "c"])
      expect(yield* late.next(1)).toEqual(["c"])
    }).pipe(Effect.provide(memory())))

  it.effect("hands over only what its filter lets through, one by one or together", () =>
    Effect.gen(function*() {
      const together = yield* Queue.unbounded<ReadonlyArray<string>>()
      const { handle, next } = yield* listener
      const filter = (event: DomainObjectCreated) => idOf(event) !== "b"
      yield* persist("a", "b", "c", "d")
      yield* Subscription.make("one", handle, { filter })
      yield* Subscription.make("many", {
        handleMany: (events) => Queue.offer(together, events.map(idOf))
      }, { filter, batchSize: 3 })
      expect(yield* next(3)).toEqual(["a", "c", "d"])
      expect(yield* Effect.replicateEffect(Queue.take(together), 2)).toEqual([["a", "c"], ["d"]])
    }).pipe(Effect.provide(memory())))

  it.effect("to the ends of calls is handed each at its end, as soon as it is there, as its filter says", () =>
    Effect.gen(function*() {
      const heard = yield* Queue.unbounded<string>()
      yield* Subscription.makeCalls(
        "complete",
        ({ callId, dead, persisted }) => Queue.offer(heard, `${callId} ${persisted} ${dead}`),
        { filter: ({ callId }) => callId !== "b" }
      )
      yield* settled
      // the clock stands still: only a hint can have woken it
      yield* persist("a", "b")
      yield* record(call("c"))
      yield* settle({ dead: "exhausted" })
      expect(yield* Effect.replicateEffect(Queue.take(heard), 2)).toEqual(["a 1 0", "c 0 1"])
    }).pipe(Effect.provide(memory())))

  it.effect("whose name is one to another feed is refused", () =>
    Effect.gen(function*() {
      yield* EventLog.EventLog.use((log) => log.open("media", "beginning"))
      const error = yield* Effect.flip(Subscription.makeCalls("media", () => Effect.void))
      expect(error.message).toContain("is told created objects, not ends of calls: choose another name")
    }).pipe(Effect.provide(memory())))

  it.effect("that fails is tried again by its own schedule, in order, and holds up no other", () =>
    Effect.gen(function*() {
      const good = yield* listener
      const poison = yield* listener
      let mended = false
      const handle = (event: DomainObjectCreated) =>
        Effect.andThen(
          poison.handle(event),
          idOf(event) === "b" && !mended ? Effect.fail(new Error("no film")) : Effect.void
        )
      yield* persist("a", "b", "c")
      yield* Subscription.make("poison", handle, { retry: Schedule.exponential("1 minute") })
      yield* Subscription.make("good", good.handle)
      expect(yield* good.next(3)).toEqual(["a", "b", "c"])
      expect(yield* poison.next(2)).toEqual(["a", "b"])
      yield* settled
      expect(yield* statusOf("poison")).toMatchObject({ attempts: 1, behind: 2 })
      expect((yield* statusOf("poison"))?.lastError).toContain("no film")

      // what comes meanwhile wakes the others
      yield* persist("d")
      expect(yield* good.next(1)).toEqual(["d"])
      for (const minutes of [1, 2, 4]) {
        yield* TestClock.adjust(Duration.minutes(minutes - 0.5))
        expect(yield* Queue.size(poison.heard)).toBe(0)
        yield* TestClock.adjust("30 seconds")
        expect(yield* poison.next(1)).toEqual(["b"])
      }
      expect(yield* statusOf("poison")).toMatchObject({ attempts: 4 })
      mended = true
      yield* TestClock.adjust("8 minutes")
      expect(yield* poison.next(3)).toEqual(["b", "c", "d"])
      yield* settled
      expect(yield* statusOf("poison")).toMatchObject({ attempts: 0, lastError: null, behind: 0 })
    }).pipe(Effect.provide(memory())))

  it.effect("that fails with a batch gets as far as the culprit", () =>
    Effect.gen(function*() {
      const given = yield* Queue.unbounded<string>()
      const handleMany = (events: ReadonlyArray<DomainObjectCreated>) =>
        Effect.andThen(
          Queue.offer(given, events.map(idOf).join("")),
          events.some((event) => idOf(event) === "c") ? Effect.die("a bug") : Effect.void
        )
      yield* persist("a", "b", "c", "d")
      yield* Subscription.make("media", { handleMany }, { retry: Schedule.spaced("1 minute") })
      // halves of it, at once; then it alone, when it is due
      expect(yield* Effect.replicateEffect(Queue.take(given), 3)).toEqual(["abcd", "ab", "c"])
      yield* TestClock.adjust("1 minute")
      expect(yield* Queue.take(given)).toBe("c")
      yield* TestClock.adjust("1 minute")
      expect(yield* Queue.take(given)).toBe("c")
      expect(yield* statusOf("media")).toMatchObject({ behind: 2 })
    }).pipe(Effect.provide(memory())))

  it.effect("whose handler interrupts itself has failed", () =>
    Effect.gen(function*() {
      const { handle, next } = yield* listener
      yield* persist("a")
      yield* Subscription.make("media", (event) => Effect.andThen(handle(event), Effect.interrupt), {
        retry: Schedule.spaced("1 minute")
      })
      expect(yield* next(1)).toEqual(["a"])
      yield* settled
      expect(yield* statusOf("media")).toMatchObject({ attempts: 1 })
      yield* TestClock.adjust("1 minute")
      expect(yield* next(1)).toEqual(["a"])
    }).pipe(Effect.provide(memory())))

  it.effect("is read by one at a time; a slow handler keeps its lease", () =>
    Effect.gen(function*() {
      const { handle, heard, next } = yield* listener
      const slow = (event: DomainObjectCreated) => Effect.andThen(handle(event), Effect.sleep("10 minutes"))
      yield* persist("a", "b")
      yield* Subscription.make("media", slow, { lease: "1 minute", pollInterval: "1 second" })
      yield* Subscription.make("media", slow, { lease: "1 minute", pollInterval: "1 second" })
      expect(yield* next(1)).toEqual(["a"])
      yield* TestClock.adjust("9 minutes")
      expect(yield* Queue.size(heard)).toBe(0)
      yield* TestClock.adjust("1 minute")
      expect(yield* next(1)).toEqual(["b"])
      yield* TestClock.adjust("10 minutes")
      expect(yield* statusOf("media")).toMatchObject({ behind: 0 })
      expect(yield* Queue.size(heard)).toBe(0)
    }).pipe(Effect.provide(memory())))

  it.effect("of a reader that lost its lease is another's: the frozen one's handler is stopped and moves nothing", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      const stopped = yield* Deferred.make<void>()
      const { handle, next } = yield* listener
      const hanging = (event: DomainObjectCreated) =>
        Effect.andThen(handle(event), Effect.onInterrupt(Effect.never, () => Deferred.succeed(stopped, undefined)))
      yield* persist("a", "b")
      yield* Subscription.make("media", hanging, { lease: "1 minute" })
      expect(yield* next(1)).toEqual(["a"])
      // somebody else has it: as after a lease that ran out while this process stood still
      yield* log.remove("media")
      yield* log.open("media", "beginning")
      const other = Option.getOrThrow(
        yield* log.take("media", { limit: 1, maxBytes: 1e9, lease: Duration.hours(1), reader: "test" })
      )
      yield* TestClock.adjust("20 seconds")
      yield* Deferred.await(stopped)
      yield* settled
      expect(yield* statusOf("media")).toMatchObject({ attempts: 0, behind: 2 })
      yield* log.advance("media", other.token, { place: other.entries[0]!.place, suspects: 0 }, Duration.minutes(1))
      expect(yield* statusOf("media")).toMatchObject({ behind: 1 })
    }).pipe(Effect.provide(memory())))

  it.effect("is made only with a name and numbers that make sense", () =>
    Effect.gen(function*() {
      for (const name of ["", "a\nb", "a\0", "x".repeat(201)]) {
        const error = yield* Effect.flip(Subscription.make(name, () => Effect.void))
        expect(error._tag).toBe("SubscriptionInvalid")
      }
      const error = yield* Effect.flip(Subscription.make("media", () => Effect.void, { batchSize: 0 }))
      expect(error.message).toContain("0 is not a batch size")
      yield* Subscription.make("'; drop table sluice.subscription; -- ‮🩺", () => Effect.void)
      expect(yield* EventLog.EventLog.use((log) => log.list)).toHaveLength(1)
    }).pipe(Effect.provide(memory())))
})

describe("at the end", () => {
  /** A subscription in a scope of its own, whose handler waits at each event until it is let go. */
  const held = Effect.gen(function*() {
    const scope = yield* Scope.make()
    const { handle, heard, next } = yield* listener
    const gate = yield* Deferred.make<void>()
    const waiting = (event: DomainObjectCreated) => Effect.andThen(handle(event), Deferred.await(gate))
    yield* persist("a", "b")
    yield* Scope.provide(Subscription.make("media", waiting), scope)
    expect(yield* next(1)).toEqual(["a"])
    const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
    yield* settled
    return { closing, gate, heard }
  })

  it.effect("the running handler may finish, the rest is the next reader's at once", () =>
    Effect.gen(function*() {
      const { closing, gate, heard } = yield* held
      expect(closing.pollUnsafe()).toBe(undefined)
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(closing)
      expect(yield* Queue.size(heard)).toBe(0)
      const next = yield* listener
      yield* Subscription.make("media", next.handle)
      expect(yield* next.next(1)).toEqual(["b"])
    }).pipe(Effect.provide(memory({ gracePeriod: Duration.minutes(1) }))))

  it.effect("one that does not finish in time is interrupted, and its event is the next reader's at once", () =>
    Effect.gen(function*() {
      const { closing } = yield* held
      yield* TestClock.adjust("59 seconds")
      expect(closing.pollUnsafe()).toBe(undefined)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      const next = yield* listener
      yield* Subscription.make("media", next.handle)
      expect(yield* next.next(2)).toEqual(["a", "b"])
      expect(yield* statusOf("media")).toMatchObject({ attempts: 0 })
    }).pipe(Effect.provide(memory({ gracePeriod: Duration.minutes(1) }))))
})
