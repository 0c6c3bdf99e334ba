/**
 * The contract finds stores that do not keep it: each of these is the store in memory with one verb that does something
 * else. And its scenes accept nothing that Vitest's own `expect` refuses.
 */
import { it as effectIt } from "@effect/vitest"
import { ChunkStore } from "effect-sluice"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import { contract, ContractBroken } from "effect-sluice/testing/contract"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Struct from "effect/Struct"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect, it } from "vitest"
import { expect as own, Mismatch } from "../../src/testing/contract/expect.ts"
import { besideMemory } from "../contract/operators/ground.ts"

type Store = ChunkStore.ChunkStore["Service"]

/** The store in memory, some of whose verbs are others. */
const broken = (change: (store: Store) => Partial<Store>) =>
  Layer.effect(
    ChunkStore.ChunkStore,
    Effect.map(ChunkStore.ChunkStore, (store): Store => ({ ...store, ...change(store) }))
  ).pipe(
    Layer.provideMerge(MemoryStore.layerStorage),
    Layer.merge(besideMemory),
    Layer.provideMerge(MemoryDatabase.layer)
  )

/** The failures of a topic's scenes on such a store. */
const findings = Effect.fnUntraced(function*(change: (store: Store) => Partial<Store>, topic: string) {
  const store = broken(change)
  const results = yield* Effect.forEach(
    contract.filter((scene) => scene.topic === topic),
    ({ run }) => Effect.result(run(store)).pipe(Effect.provide(TestClock.layer()))
  )
  return results.flatMap((result) => Result.isFailure(result) ? [result.failure] : [])
})

const stores: ReadonlyArray<readonly [string, (store: Store) => Partial<Store>, topic: string]> = [
  ["records a call twice", (store) => ({
    record: (calls) => Effect.map(store.record(calls), (outcomes) => outcomes.map(() => "recorded" as const))
  }), "recording"],
  ["gives no chunk a lease that ends", (store) => ({
    claim: (request) => store.claim({ ...request, lease: Duration.days(300) })
  }), "claiming"],
  ["claims more than it was asked for", (store) => ({
    claim: (request) => store.claim({ ...request, limit: request.limit + 1 })
  }), "claiming"],
  ["writes no ledger", () => ({ ledger: () => Effect.succeed([]) }), "persisting"],
  ["forgets ordering keys", (store) => ({
    record: (calls) => store.record(calls.map((call) => Struct.omit(call, ["orderingKey"])))
  }), "ordering"],
  ["forgets that a worker serves anything", (store) => ({ beat: (worker) => store.beat(worker, []) }), "beat"]
]

describe("a store that does not keep the contract", () => {
  for (const [name, change, topic] of stores) {
    effectIt.effect(`is found: one that ${name}`, () =>
      Effect.gen(function*() {
        expect(yield* findings(() => ({}), topic)).toEqual([])
        const found = yield* findings(change, topic)
        expect(found.length).toBeGreaterThan(0)
        for (const error of found) expect(error).toBeInstanceOf(ContractBroken)
      }), 60_000)
  }

  effectIt.effect("is told of by the topic, the rule, and what was found instead", () =>
    Effect.gen(function*() {
      const [error] = yield* findings(() => ({ ledger: () => Effect.succeed([]) }), "persisting")
      expect(error?.message).toMatch(
        /^persisting: the handler's writes, the ledger row and the settlement are one commit: \[\] does not match \[/
      )
      expect(error?.cause).toMatchObject({ actual: [] })
    }), 60_000)
})

it("each scene has a name of its own within its topic", () => {
  const names = contract.map(({ name, topic }) => `${topic}: ${name}`)
  expect(names.length).toBeGreaterThan(100)
  expect([...new Set(names)]).toEqual(names)
})

describe("what scenes expect", () => {
  class Chunk {
    readonly #id = "a"
    get id() {
      return this.#id
    }
  }
  const at = DateTime.makeUnsafe(0)
  const values: ReadonlyArray<unknown> = [
    undefined,
    null,
    0,
    -0,
    NaN,
    1n,
    "a",
    "",
    [],
    ["a"],
    ["a", undefined],
    {},
    { a: undefined },
    { a: 1 },
    { a: 1, b: [] },
    { a: { b: 1, c: 2 } },
    { a: { b: 1 } },
    [{ a: 1, b: 2 }],
    [{ a: 1 }],
    { id: "a" },
    new Chunk(),
    Option.none(),
    Option.some(1),
    Option.some({ a: 1 }),
    at,
    DateTime.makeUnsafe(1),
    Duration.seconds(1),
    Duration.seconds(2),
    new Set([1]),
    new Set([2])
  ]
  type Matcher = (actual: unknown, expected: unknown) => void
  const holds = (check: () => unknown): boolean => {
    try {
      check()
      return true
    } catch {
      return false
    }
  }

  const matchers: ReadonlyArray<readonly [string, Matcher, Matcher]> = [
    ["toBe", (a, b) => own(a).toBe(b), (a, b) => expect(a).toBe(b)],
    ["toEqual", (a, b) => own(a).toEqual(b), (a, b) => expect(a).toEqual(b)],
    ["toMatchObject", (a, b) => own(a).toMatchObject(b), (a, b) => expect({ a }).toMatchObject({ a: b })],
    ["toContainEqual", (a, b) => own([a]).toContainEqual(b), (a, b) => expect([a]).toContainEqual(b)]
  ]
  for (const [name, own, vitest] of matchers) {
    it(`by ${name}, and Vitest refuses, is refused`, () => {
      let accepted = 0
      for (const actual of values) {
        for (const expected of values) {
          if (!holds(() => own(actual, expected))) continue
          accepted++
          expect([actual, expected, holds(() => vitest(actual, expected))]).toStrictEqual([actual, expected, true])
        }
      }
      expect(accepted).toBeGreaterThanOrEqual(values.length)
    })
  }

  it("of fields that are missing, that others have, or that are undefined", () => {
    own({ a: 1, b: undefined }).toEqual({ a: 1 })
    own({ a: { b: 1, c: 2 }, d: [{ e: 1, f: 2 }] }).toMatchObject({ a: { b: 1 }, d: [{ e: 1 }] })
    own(new Chunk()).toMatchObject({ id: "a" })
    own(Option.some({ a: 1, b: undefined })).toEqual(Option.some({ a: 1 }))
    expect(() => own({ a: 1 }).toEqual({ a: 1, b: null })).toThrow("does not equal")
    expect(() => own({ a: 1 }).toMatchObject({ a: 1, b: undefined })).toThrow("does not match")
    expect(() => own([1, 2]).toMatchObject([1])).toThrow("does not match")
  })

  it("of a list that has changed since it was compared", () => {
    const list = ["a"]
    own(list).toEqual(["a"])
    list.push("b")
    own(list).toEqual(["a", "b"])
    expect(() => own(list).toEqual(["a"])).toThrow("does not equal")
  })

  it("of strings, lengths and numbers", () => {
    own({ a: ["why 'not'"] }).toEqual({ a: [own.stringMatching(/^why.+'not'$/)] })
    own("abc").toMatch(/b/)
    own("abc").toContain("bc")
    own([1, 2]).toContain(2)
    own([1, 2]).toHaveLength(2)
    own(undefined).toBeUndefined()
    own(2).toBeGreaterThan(1)
    own(1).toBeLessThan(2)
    own(1).not.toBe(2)
    own({ a: 1 }).not.toHaveProperty("b")
    for (
      const wrong of [
        () => own({ a: ["why"] }).toEqual({ a: [own.stringMatching(/^why.+'not'$/)] }),
        () => own("abc").toMatch(/d/),
        () => own("abc").toContain("d"),
        () => own([1, 2]).toContain(3),
        () => own([1, 2]).toHaveLength(3),
        () => own(null).toBeUndefined(),
        () => own(1).toBeGreaterThan(1),
        () => own(1).toBeLessThan(1),
        () => own(1).not.toBe(1),
        () => own({ a: 1 }).not.toHaveProperty("a")
      ]
    ) expect(wrong).toThrow(Mismatch)
  })
})
