/**
 * What a failing event costs the others of its batch: whatever fails, and however often, each is handed over few times, in
 * its order, none is left out, and only who fails alone is waited for.
 */
import { it } from "@effect/vitest"
import { EventLog, Subscription } from "effect-sluice"
import type { DomainObjectCreated } from "effect-sluice/DomainObject"
import * as Settings from "effect-sluice/Settings"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { call, record, settle } from "../contract/operators/dialogues.ts"

const idOf = (event: DomainObjectCreated) => event.key.callId
const name = (n: number) => `call-${String(n).padStart(4, "0")}`

/** A ledger of so many lines, of which some created nothing. */
const persist = Effect.fnUntraced(function*(count: number, empty: ReadonlySet<number> = new Set()) {
  for (let n = 0; n < count; n++) {
    yield* record(call(name(n)))
    yield* settle(empty.has(n) ? "nothing" : "persisted")
  }
})

const statusOf = EventLog.EventLog.use((log) => Effect.map(log.list, ([status]) => status!))
const memory = Layer.mergeAll(MemoryStore.layer, Logger.layer([])).pipe(
  Layer.provideMerge(Settings.layer({ gracePeriod: Duration.zero }))
)

/** What is tried. */
interface Case {
  readonly count: number
  readonly batchSize: number
  /** How often each of these fails, alone or with others, before it is mended. */
  readonly failing: ReadonlyMap<string, number>
  /** Which calls of the handler fail, whatever they are given. */
  readonly passing: ReadonlySet<number>
  readonly empty: ReadonlySet<number>
  /** After which calls the process is killed, before it can say anything. */
  readonly killed: ReadonlySet<number>
}

const most = (set: ReadonlySet<number>, limit: number) => [...set].filter((n) => n < limit).length

const draw = Effect.gen(function*() {
  const int = (least: number, greatest: number) => Random.nextIntBetween(least, greatest)
  const some = Effect.fnUntraced(function*(count: number, below: number) {
    const set = new Set<number>()
    for (let n = 0; n < count; n++) set.add((yield* int(0, 10_000)) % below)
    return set
  })
  const count = yield* int(1, 90)
  const failing = new Map<string, number>()
  for (const n of yield* some((yield* int(0, 3)) % 4, count)) failing.set(name(n), yield* int(1, 3))
  return {
    count,
    batchSize: yield* int(1, 70),
    failing,
    passing: yield* some((yield* int(0, 3)) % 3, 12),
    empty: yield* some((yield* int(0, 3)) % 3 * 20, count),
    killed: yield* some((yield* int(0, 3)) % 3, 12)
  } satisfies Case as Case
})

/** A process that runs the subscription. After its death nothing that it says is heard any more. */
const startProcess = Effect.fnUntraced(function*(
  batchSize: number,
  handleMany: (events: ReadonlyArray<DomainObjectCreated>, die: Effect.Effect<never>) => Effect.Effect<void, string>
) {
  const log = yield* EventLog.EventLog
  const scope = yield* Scope.make()
  let alive = true
  const heard: EventLog.EventLog["Service"] = {
    ...log,
    take: (name, options) => Effect.suspend(() => alive ? log.take(name, options) : Effect.succeedNone),
    advance: (...args) => Effect.suspend(() => alive ? log.advance(...args) : Effect.void),
    release: (...args) => Effect.suspend(() => alive ? log.release(...args) : Effect.void)
  }
  const die = Effect.suspend(() => {
    alive = false
    return Effect.never
  })
  yield* Subscription.make("billing", { handleMany: (events) => handleMany(events, die) }, {
    batchSize,
    retry: Schedule.spaced("1 hour"),
    lease: "1 minute",
    pollInterval: "1 second"
  }).pipe(Effect.provideService(EventLog.EventLog, heard), Scope.provide(scope))
  return { isAlive: () => alive, end: Scope.close(scope, Exit.void) }
})

/** Waits until all is read, or until there is something new and the process waits for the clock or is dead. */
const atRest = (isNew: () => boolean, isAlive: () => boolean) =>
  Effect.repeat(Effect.andThen(TestClock.adjust(0), statusOf), {
    until: ({ attempts, behind, reader }) =>
      (behind === 0 && reader === null) || (isNew() && (!isAlive() || (attempts > 0 && reader === null))),
    times: 100_000
  })

/** Runs a subscription to the end of the log; gives back what its handler was given, and how often it was waited for. */
const run = Effect.fnUntraced(function*(one: Case) {
  yield* persist(one.count, one.empty)
  const given: Array<ReadonlyArray<string>> = []
  const left = new Map(one.failing)
  const handleMany = (events: ReadonlyArray<DomainObjectCreated>, die: Effect.Effect<never>) =>
    Effect.suspend((): Effect.Effect<void, string> => {
      const ids = events.map(idOf)
      const turn = given.length
      given.push(ids)
      if (one.killed.has(turn)) return die
      const culprit = ids.find((id) => (left.get(id) ?? 0) > 0)
      // it is mended after so many attempts alone
      if (culprit !== undefined && ids.length === 1) left.set(culprit, left.get(culprit)! - 1)
      return culprit !== undefined || one.passing.has(turn) ? Effect.fail(`not ${culprit ?? "now"}`) : Effect.void
    })
  let waits = 0
  let deaths = 0
  let seen = 0
  let process = yield* startProcess(one.batchSize, handleMany)
  while (true) {
    const status = yield* atRest(() => given.length > seen, process.isAlive)
    if (status.behind === 0) break
    seen = given.length
    if (process.isAlive()) {
      waits++
      yield* TestClock.adjust("1 hour")
    } else {
      deaths++
      yield* process.end
      yield* TestClock.adjust("61 seconds")
      process = yield* startProcess(one.batchSize, handleMany)
    }
  }
  yield* process.end
  return { given, waits, deaths }
})

const seeds = Number(process.env["SEEDS"] ?? 40)
const first = Number(process.env["SEED"] ?? Math.floor(performance.now() * 1000) % 1_000_000)

describe("a search for the one that fails", () => {
  it.effect(
    `costs each of its mates 2 + log2 n times, nothing is left out, and order is kept (seeds ${first} and on)`,
    () =>
      Effect.forEach(Array.from({ length: seeds }, (_, n) => first + n), (seed) =>
        Effect.gen(function*() {
          const one = yield* draw
          const { deaths, given, waits } = yield* run(one)
          const wanted = Array.from({ length: one.count }, (_, n) => n).filter((n) => !one.empty.has(n)).map(name)
          const calls = given.flat()
          // each, for the first time in the order of the log
          expect({ seed, first: [...new Set(calls)] }).toEqual({ seed, first: wanted })
          const attempts = [...one.failing].filter(([id]) => wanted.includes(id)).reduce(
            (sum, [, times]) => sum + times,
            0
          )
          const troubles = most(one.passing, given.length) + deaths
          const halvings = Math.ceil(Math.log2(Math.min(one.batchSize, one.count))) + 1
          for (const id of wanted) {
            const times = calls.filter((call) => call === id).length
            // those that fail in its batch, and what fails by itself: each costs one search
            const near = [...one.failing.keys()].filter((other) =>
              Math.abs(wanted.indexOf(other) - wanted.indexOf(id)) < one.batchSize + one.empty.size
            ).length
            const bound = 1 + (near + troubles) * halvings + (one.failing.get(id) ?? 0)
            expect({ seed, id, times, tooOften: times > bound }).toEqual({ seed, id, times, tooOften: false })
          }
          // only who fails alone is waited for; what passes by itself may meet somebody alone
          expect({ seed, waits, tooOften: waits > attempts + troubles }).toEqual({ seed, waits, tooOften: false })
        }).pipe(
          Effect.provide(Layer.fresh(memory), { local: true }),
          Effect.provide(Settings.layer({ gracePeriod: Duration.zero })),
          Random.withSeed(seed)
        ), { discard: true }),
    120_000
  )

  it.effect("the last of sixty costs the others two deliveries in all, and no wait", () =>
    Effect.gen(function*() {
      const { given, waits } = yield* run({
        count: 60,
        batchSize: 100,
        failing: new Map([[name(59), 3]]),
        passing: new Set(),
        empty: new Set(),
        killed: new Set()
      })
      const others = given.flat().filter((id) => id !== name(59))
      expect(others.length).toBeLessThanOrEqual(3 * 59)
      expect(waits).toBe(3)
      expect(given.map((ids) => ids.length)).toEqual([60, 30, 15, 8, 4, 2, 1, 1, 1, 1])
    }).pipe(Effect.provide(memory)))

  it.effect("a trouble that passes by itself costs one more delivery each, and no wait", () =>
    Effect.gen(function*() {
      const { given, waits } = yield* run({
        count: 60,
        batchSize: 100,
        failing: new Map(),
        passing: new Set([0]),
        empty: new Set(),
        killed: new Set()
      })
      expect(waits).toBe(0)
      expect(given.flat()).toHaveLength(2 * 60)
    }).pipe(Effect.provide(memory)))

  it.effect("an event that kills its reader stands alone after log2 n deaths, and the others are done", () =>
    Effect.gen(function*() {
      const given: Array<ReadonlyArray<string>> = []
      const killer = name(20)
      const handleMany = (events: ReadonlyArray<DomainObjectCreated>, die: Effect.Effect<never>) =>
        Effect.suspend(() => {
          given.push(events.map(idOf))
          return events.some((event) => idOf(event) === killer) ? die : Effect.void
        })
      yield* persist(32)
      for (let death = 0; death < 12; death++) {
        const before = given.length
        const process = yield* startProcess(100, handleMany)
        yield* atRest(() => given.length > before, process.isAlive)
        yield* process.end
        yield* TestClock.adjust("61 seconds")
      }
      expect(given.slice(-6)).toEqual(Array.from({ length: 6 }, () => [killer]))
      expect(yield* statusOf).toMatchObject({ behind: 12, next: { key: { callId: killer } } })
      for (const id of given.flat()) expect(given.flat().filter((one) => one === id).length).toBeLessThanOrEqual(12)
    }).pipe(Effect.provide(memory)))

  it.effect("a filter that fails with one event stops there, and not before", () =>
    Effect.gen(function*() {
      const given: Array<string> = []
      yield* persist(20)
      yield* Subscription.make("billing", {
        handleMany: (events) => Effect.sync(() => given.push(...events.map(idOf)))
      }, {
        filter: (event) => {
          if (idOf(event) === name(13)) throw new Error("no such ward")
          return true
        }
      })
      expect(yield* atRest(() => true, () => true)).toMatchObject({
        behind: 7,
        attempts: 1,
        lastError: expect.stringMatching(/no such ward/)
      })
      expect(given).toEqual(Array.from({ length: 13 }, (_, n) => name(n)))
    }).pipe(Effect.provide(memory)))
})
