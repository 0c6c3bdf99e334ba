/**
 * Which known name a misspelt one stands for.
 */
import { describe, expect, it } from "vitest"
import { editDistance, nearest } from "../../src/internal/nearest.ts"

describe("the edit distance", () => {
  it.each([
    ["", "", 0],
    ["ward", "ward", 0],
    ["", "ward", 4],
    ["ward", "", 4],
    ["ward", "wards", 1],
    ["ward", "wrd", 1],
    ["ward", "word", 1],
    // two neighbours swapped are one slip
    ["ward", "wrad", 1],
    ["patient-reply", "patient-replies", 3],
    ["abcdef", "badcfe", 3],
    ["ca", "abc", 3]
  ])("of %j and %j is %i, in both directions", (from, to, distance) => {
    expect([editDistance(from, to), editDistance(to, from)]).toEqual([distance, distance])
  })
})

describe("the nearest name", () => {
  it("is the closest of those that are close", () => {
    expect(nearest("clinc", ["ward", "clinics", "clinic"])).toBe("clinic")
    expect(nearest("PATIENT-REPLY", ["patient-reply"])).toBe("patient-reply")
  })

  it("is none when all are far, and never the name itself", () => {
    expect(nearest("coffee", ["lease", "batch_size"])).toBe(undefined)
    expect(nearest("in", ["out", "on-call"])).toBe(undefined)
    expect(nearest("clinic", ["clinic"])).toBe(undefined)
    expect(nearest("clinic", [])).toBe(undefined)
  })

  it("of an identity is compared part by part: long common parts hide no difference", () => {
    const known = ["schemas.chatlab.standardized_patient.patient-reply", "schemas.clinic.ward.out"]
    expect(nearest("schemas.chatlab.standardized-patient.patient-repyl", known)).toBe(known[0])
    expect(nearest("schemas.clinic.ward.in", known)).toBe(undefined)
    expect(nearest("schemas.clinic.ward", known)).toBe(undefined)
  })

  it("is not looked for among texts too long to be a slip", () => {
    const long = "x".repeat(100_000)
    expect(nearest(`${long}y`, [long])).toBe(undefined)
  })
})
