/**
 * The sizes of the tries of a declared handler while the table refuses rows.
 */
import { describe, expect, it } from "vitest"
import * as TrySize from "../../src/drain/trySize.ts"

/** What became of a queue of so many chunks, of which some are refused. */
const drained = (count: number, isRefused: (chunk: number) => boolean, full: number) => {
  const size = TrySize.make()
  const queue = Array.from({ length: count }, (_, chunk) => chunk)
  const sizes: Array<number> = []
  const claims: Array<ReadonlyArray<number>> = []
  while (queue.length > 0) {
    const next = size.next(full)
    sizes.push(next)
    const taken = queue.slice(0, next)
    const fails = taken.some(isRefused)
    const then = fails ? size.refused(next) : size.persisted(queue.splice(0, next).length)
    if (then === "claim one") claims.push(queue.splice(0, 1))
    if (then === "claim all") claims.push(queue.splice(0, full))
  }
  return { sizes, claims }
}

describe("the size of a try", () => {
  it("is the full one while no row is refused", () => {
    const { claims, sizes } = drained(5000, () => false, 500)
    expect(new Set(sizes)).toEqual(new Set([500]))
    expect(claims).toEqual([])
  })

  it("stays the full one when a row is rarely refused: a claim takes that batch", () => {
    const { claims, sizes } = drained(50_000, (chunk) => chunk % 10_000 === 5000, 500)
    expect(new Set(sizes)).toEqual(new Set([500]))
    expect(claims.map(({ length }) => length)).toEqual([500, 500, 500, 500, 500])
  })

  it("finds each refused chunk when there are many, and only that one is claimed", () => {
    const isRefused = (chunk: number) => chunk % 250 === 77
    const { claims, sizes } = drained(10_000, isRefused, 500)
    const [first, ...others] = claims
    expect(first).toHaveLength(500)
    // two of forty were in the first batch
    expect(others).toHaveLength(38)
    for (const claim of others) expect(claim.map(isRefused)).toEqual([true])
    // about as many tries as a search by halves takes
    expect(sizes.length / others.length).toBeLessThan(14)
    for (const size of sizes) expect(size === 500 || Number.isInteger(Math.log2(size))).toBe(true)
  })

  it("does not search where most are refused: claims take them all", () => {
    const { claims } = drained(2000, () => true, 500)
    expect(claims.reduce((sum, claim) => sum + claim.length, 0)).toBe(2000)
    expect(claims.filter(({ length }) => length === 1).length).toBeLessThan(12)
  })

  it("is not searched with small batches", () => {
    const { claims, sizes } = drained(100, () => true, 10)
    expect(claims.every(({ length }) => length === 10)).toBe(true)
    expect(sizes.every((size) => size === 10 || size === 8)).toBe(true)
  })

  it("ends a search when the refused chunk is gone", () => {
    const size = TrySize.make()
    expect(size.refused(500)).toBe("claim all")
    expect(size.refused(500)).toBe("try")
    expect(size.searches()).toBe(true)
    // others have taken the chunk, so that everything that was suspected is persisted
    for (let left = 500; left > 1;) {
      const next = size.next(500)
      left -= next
      if (size.persisted(next) === "claim one") break
    }
    expect(size.searches()).toBe(false)
  })

  it("stays small while nothing is due: an empty try says nothing about the table", () => {
    const size = TrySize.make()
    size.refused(500)
    size.refused(500)
    for (let n = 0; n < 20; n++) expect(size.persisted(0)).toBe("try")
    expect(size.next(500)).toBe(128)
    // and a failure after that is not the first for a long time
    expect(size.refused(128)).toBe("try")
  })

  it("is the full one again when tries have succeeded for a while", () => {
    const size = TrySize.make()
    size.refused(500)
    size.refused(500)
    expect(size.next(500)).toBe(128)
    for (let n = 0; n < 20; n++) size.persisted(size.next(500))
    expect(size.next(500)).toBe(500)
  })
})
