/**
 * Where the next claim begins: the mark moves with what is claimed, is forgotten at the end, and kept there only where
 * looking from the beginning takes long.
 */
import { describe, expect, it } from "vitest"
import * as LowWater from "../../src/store/pg/lowWater.ts"

const place = (time: string) => ({ time, seq: 0n })
/** Nothing was found. */
const nothing: LowWater.Reached = { place: undefined, ended: true }
/** A hasty scan that took so many milliseconds. */
const scan = (
  marks: ReturnType<typeof LowWater.make>,
  began: number,
  took: number,
  rows: number,
  reached = nothing
) => marks.move("clinic", { mark: marks.from("clinic", began, true), began, now: began + took, rows, reached })

describe("the low-water mark", () => {
  it("is where the last scan came to, for a second", () => {
    const marks = LowWater.make()
    expect(marks.from("clinic", 0, false)).toBeUndefined()
    scan(marks, 0, 2, 10, { place: place("a"), ended: false })
    expect(marks.from("clinic", 900, false)?.place).toEqual(place("a"))
    expect(marks.from("ward", 900, false)).toBeUndefined()
    scan(marks, 900, 2, 10, { place: place("b"), ended: false })
    expect(marks.from("clinic", 1001, false)?.place).toEqual(place("b"))
    // a second after the last look from the beginning, however often it moved since
    expect(marks.from("clinic", 1002, false)).toBeUndefined()
  })

  it("is forgotten at the end", () => {
    const marks = LowWater.make()
    scan(marks, 0, 2, 10, { place: place("a"), ended: false })
    scan(marks, 10, 2, 3, { place: place("b"), ended: true })
    expect(marks.from("clinic", 20, true)).toBeUndefined()
    // many rows take their time by themselves
    scan(marks, 30, 40, 500, { place: place("c"), ended: true })
    expect(marks.from("clinic", 80, true)).toBeUndefined()
  })

  it("is kept at the end where looking takes long, for twenty times as long, and only for who is hasty", () => {
    const marks = LowWater.make()
    scan(marks, 0, 30, 1, { place: place("a"), ended: true })
    expect(marks.from("clinic", 40, true)).toMatchObject({ place: place("a"), ended: true })
    expect(marks.from("clinic", 40, false)).toBeUndefined()
    // quick, because it began there: that says nothing about the beginning
    scan(marks, 40, 1, 1, { place: place("b"), ended: true })
    scan(marks, 45, 1, 0)
    expect(marks.from("clinic", 629, true)?.place).toEqual(place("b"))
    expect(marks.from("clinic", 630, true)).toBeUndefined()
    // and when it is quick again, as before
    scan(marks, 700, 1, 1, { place: place("c"), ended: true })
    expect(marks.from("clinic", 702, true)).toBeUndefined()
  })

  it("is kept when a scan that began at it comes to the end, where looking from the beginning takes long", () => {
    const marks = LowWater.make()
    scan(marks, 0, 300, 10, { place: place("a"), ended: false })
    scan(marks, 310, 2, 3, { place: place("b"), ended: true })
    expect(marks.from("clinic", 320, true)).toMatchObject({ place: place("b"), ended: true })
    expect(marks.from("clinic", 320, false)).toBeUndefined()
    scan(marks, 330, 2, 10, { place: place("c"), ended: false })
    scan(marks, 340, 2, 3, { place: place("d"), ended: true })
    // twenty times as long as the look took
    expect(marks.from("clinic", 6299, true)?.place).toEqual(place("d"))
    expect(marks.from("clinic", 6300, true)).toBeUndefined()
  })

  it("is still where it was when who is not hasty found nothing, and gone when that was quick", () => {
    const marks = LowWater.make()
    scan(marks, 0, 30, 1, { place: place("a"), ended: true })
    marks.move("clinic", { mark: undefined, began: 40, now: 80, rows: 0, reached: nothing })
    expect(marks.from("clinic", 800, true)?.place).toEqual(place("a"))
    marks.move("clinic", { mark: undefined, began: 100, now: 101, rows: 0, reached: nothing })
    expect(marks.from("clinic", 102, true)).toBeUndefined()
  })

  it("is no longer kept at the end when something became due behind it", () => {
    const marks = LowWater.make()
    scan(marks, 0, 30, 1, { place: place("a"), ended: true })
    marks.move("ward", { mark: undefined, began: 0, now: 2, rows: 10, reached: { place: place("a"), ended: false } })
    marks.resetEnds()
    expect(marks.from("clinic", 40, true)).toBeUndefined()
    expect(marks.from("ward", 40, true)).toBeDefined()
    marks.reset()
    expect(marks.from("ward", 40, true)).toBeUndefined()
  })
})
