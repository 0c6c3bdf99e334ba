/**
 * Pictures of tables are compared by what is in them, and what sets two apart is told in a line a person can use.
 */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import { describe, expect, it } from "vitest"
import { differences, snapshot } from "../../src/testing/difference.ts"

class Row {
  readonly id: number
  constructor(id: number) {
    this.id = id
  }
}
const own = (key: string) => JSON.parse(`{"${key}": 1}`)

const same: ReadonlyArray<readonly [name: string, make: () => unknown]> = [
  ["numbers", () => [0, -1, 2 ** 60, Number.NaN, Infinity]],
  ["texts", () => ["", "a", "🩺"]],
  ["bigints", () => ({ id: 2n ** 64n })],
  ["dates", () => [new Date(7), DateTime.makeUnsafe(7)]],
  ["bytes", () => new Uint8Array([1, 2, 3])],
  ["maps by keys that are records", () => new Map([[{ id: 1 }, "a"]])],
  ["sets of records", () => new Set([{ id: 1 }, { id: 2n }])],
  ["fields that are undefined", () => ({ a: undefined, b: null })],
  ["rows of a class", () => [new Row(1)]],
  ["options", () => Option.some({ id: 1 })],
  ["a field that is a word to JavaScript", () => own("__proto__")],
  ["what holds itself", () => {
    const row: { self?: unknown } = {}
    row.self = row
    return row
  }]
]

const apart: ReadonlyArray<readonly [name: string, expected: unknown, found: unknown, lines: ReadonlyArray<string>]> = [
  ["a number and its text", 1, "1", [`tables is "1", not 1`]],
  ["a number and its bigint", { id: 1 }, { id: 1n }, ["tables.id is 1n, not 1"]],
  ["null and undefined", [null], [undefined], ["tables[0] is undefined, not null"]],
  ["undefined and missing", { a: undefined }, {}, ["tables.a is missing, not undefined"]],
  ["missing and undefined", {}, { a: undefined }, ["tables.a is undefined, not missing"]],
  ["a date and its text", new Date(0), "1970-01-01T00:00:00.000Z", [
    `tables is "1970-01-01T00:00:00.000Z", not 1970-01-01T00:00:00.000Z`
  ]],
  ["two dates", [new Date(0)], [new Date(1)], [
    "tables[0] is 1970-01-01T00:00:00.001Z, not 1970-01-01T00:00:00.000Z"
  ]],
  ["bytes", new Uint8Array([1, 2]), new Uint8Array([1, 3]), ["tables is Uint8Array([1,3]), not Uint8Array([1,2])"]],
  ["a map's value", new Map([["a", [1]]]), new Map([["a", [2]]]), ["tables.a[0] is 2, not 1"]],
  ["a map's key", new Map([[1, 1]]), new Map([["1 b", 1]]), [
    "tables[1] is missing, not 1",
    `tables["1 b"] is 1, not missing`
  ]],
  ["a map and an empty one", new Map([["a", 1]]), new Map(), ["tables.a is missing, not 1"]],
  ["two sets", new Set([1, 2]), new Set([2, 3]), ["tables lacks 1", "tables has 3 too much"]],
  ["a row that came", ["a", "b"], ["a", "x", "b"], [`tables has "x" too much`]],
  ["a row that is gone", ["a", "b", "c"], ["a", "c"], [`tables lacks "b"`]],
  ["a row written twice", { rows: ["a"] }, { rows: ["a", "a"] }, [`tables.rows has "a" too much`]],
  ["rows in another order", ["a", "b"], ["b", "a"], [`tables[0] is "b", not "a"`, `tables[1] is "a", not "b"`]],
  ["a field deep down", { rows: [{ at: { n: 1, m: 2 } }] }, { rows: [{ at: { n: 1, m: 3 } }] }, [
    "tables.rows[0].at.m is 3, not 2"
  ]],
  ["a row of a class", [new Row(1)], [new Row(2)], ["tables[0].id is 2, not 1"]],
  ["an option", Option.some(1), Option.none(), ["tables is none(), not some(1)"]],
  ["a list and a record", [], {}, ["tables is {}, not []"]]
]

describe("pictures of tables", () => {
  it.each(same)("the same: %s", (_, make) => {
    expect(differences(make(), make())).toEqual([])
    // and as it was when it was looked at
    expect(differences(make(), snapshot(make()))).toEqual([])
  })

  it.each(apart)("not the same: %s", (_, expected, found, lines) => {
    expect(differences(expected, found)).toEqual(lines)
    expect(differences(snapshot(expected), snapshot(found))).toEqual(lines)
  })

  it("in whatever order maps, sets and fields are filled", () => {
    const one = { a: 1, b: new Map([[1, 1], [2, 2]]), c: new Set([1, 2]) }
    const other = { c: new Set([2, 1]), b: new Map([[2, 2], [1, 1]]), a: 1 }
    expect(differences(one, other)).toEqual([])
  })

  it("a long text is told in short", () => {
    const [line = ""] = differences("x".repeat(100_000), "y")
    expect(line.length).toBeLessThan(300)
  })

  it("what is seen stays as it was seen", () => {
    const row = { tags: new Set(["a"]), at: new Date(0), bytes: new Uint8Array(1) }
    const table = { rows: [row], byId: new Map([[1, row]]) }
    const seen = snapshot(table)
    row.tags.add("b")
    row.at.setTime(1)
    row.bytes[0] = 7
    table.rows.push(row)
    table.byId.set(2, row)
    expect(differences(seen, table).length).toBeGreaterThan(4)
  })
})
