/**
 * Errors in words: what happened and the fields that say to what; a stack for a defect only.
 */
import * as Pglite from "effect-sluice/store/Pglite"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlError from "effect/sql/SqlError"
import { describe, expect, it } from "vitest"
import { describe as words, describeCause, longestReason, withoutStack } from "../../src/internal/describe.ts"

class WardClosed extends Data.TaggedError("WardClosed")<{ readonly why: string }> {}
class BedTaken extends Schema.TaggedError<BedTaken>()("BedTaken", { bed: Schema.Int, why: Schema.String }) {
  override get message() {
    return `the bed is taken: ${this.why}`
  }
}
class OwnWords {
  readonly _tag = "OwnWords"
  readonly patients = ["a", "b"]
}
const itself = new Error("it turns in circles")
itself.cause = itself
const holder: { self?: unknown } = {}
holder.self = holder

const table: ReadonlyArray<readonly [name: string, error: unknown, text: unknown]> = [
  ["a text", "the ward is closed", "the ward is closed"],
  ["an error", new Error("the ward is closed"), "the ward is closed"],
  ["an error of two lines", new Error("the ward\nis closed"), "the ward\nis closed"],
  ["an error without words", new Error(), "Error"],
  ["an error with a name", new TypeError("no ward"), "TypeError: no ward"],
  ["a tagged error without words: its fields", new WardClosed({ why: "fire" }), `WardClosed {"why":"fire"}`],
  [
    "a tagged error with words: the fields they do not say",
    new BedTaken({ bed: 7, why: "by another" }),
    `BedTaken: the bed is taken: by another {"bed":7}`
  ],
  ["an error with fields", Object.assign(new Error("no"), { code: "E1", at: undefined }), `no {"code":"E1"}`],
  [
    "what caused it",
    new TypeError("no ward", { cause: new WardClosed({ why: "fire" }) }),
    `WardClosed {"why":"fire"} (in TypeError: no ward)`
  ],
  [
    "of a chain the innermost first, and then what it came up in, from the inside out",
    new Error("not saved", { cause: new RangeError("no room", { cause: new Error("the disk is full") }) }),
    "the disk is full (in RangeError: no room, in not saved)"
  ],
  [
    "a chain of eight",
    Array.from({ length: 7 }).reduce<Error>(
      (cause, _, at) => new Error(`layer ${at}`, { cause }),
      new Error("innermost")
    ),
    expect.stringMatching(/^innermost \(in layer 0, .*, in layer 6\)$/)
  ],
  [
    "a server's error without the client's own two around it, and without a place in a text that is not shown",
    new Error("not saved", {
      cause: new SqlError.SqlError({
        reason: new SqlError.SqlSyntaxError({
          message: "PgConnection: Query failed",
          operation: "query",
          cause: Object.assign(new Error("there is no table bed"), {
            code: "42P01",
            position: "13",
            severity: "ERROR",
            routine: "parserOpenTable"
          })
        })
      })
    }),
    `there is no table bed (42P01) (in not saved)`
  ],
  [
    "a server's error with what its message does not name, each once",
    Object.assign(new Error(`null value in column "bed" of relation "stay"`), {
      code: "23502",
      schema: "public",
      table: "stay",
      column: "bed",
      constraint: "stay_bed",
      detail: "Failing row contains (1, null).",
      hint: "",
      where: "SQL statement\n  of a trigger",
      severity: "ERROR",
      routine: "ExecConstraints"
    }),
    `null value in column "bed" of relation "stay" (23502): constraint "stay_bed"; Failing row contains (1, null); ` +
    `SQL statement, of a trigger`
  ],
  [
    "of several at once the first",
    new AggregateError([new Error("no answer from ::1"), new Error("no answer from 127.0.0.1")], "all failed"),
    "no answer from ::1 (in AggregateError: all failed)"
  ],
  ["one that caused itself", itself, "it turns in circles"],
  ["a record with a tag", { _tag: "Overloaded", after: 3 }, `Overloaded {"after":3}`],
  ["a class of one's own", new OwnWords(), `OwnWords {"patients":["a","b"]}`],
  ["a record", { why: "fire" }, `{"why":"fire"}`],
  ["one that holds itself", holder, expect.stringContaining("self")],
  ["nothing", undefined, "undefined"],
  ["null", null, "null"],
  ["a number", 7, "7"],
  ["a symbol", Symbol("bug"), "Symbol(bug)"],
  [
    "what is secret",
    { _tag: "Refused", token: Redacted.make("s3cret") },
    expect.stringMatching(/^Refused(?!.*s3cret)/)
  ],
  [
    "what cannot be read",
    {
      get message(): string {
        throw new Error("no")
      }
    },
    "an error that cannot be read"
  ]
]

describe("an error in words", () => {
  for (const [name, error, text] of table) {
    it(name, () => {
      expect(words(error)).toEqual(text)
      expect(describeCause(Cause.fail(error))).toBe(words(error))
    })
  }

  it("a database's: its own words, the key it is about, and nothing of its insides", () =>
    Effect.runPromise(
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`create table bed (id int primary key)`
        yield* sql`insert into bed values (7)`
        const text = words(yield* Effect.flip(sql`insert into bed values (7)`))
        expect(text).toBe(
          `duplicate key value violates unique constraint "bed_pkey" (23505): table "bed"; Key (id)=(7) already exists`
        )
      }).pipe(Effect.provide(Pglite.layer()))
    ))

  it("is no longer than a history may be", () => {
    for (const error of [new Error("x".repeat(1e6)), { list: Array.from({ length: 1e5 }, String) }, "🩺".repeat(1e5)]) {
      const text = describeCause(Cause.combine(Cause.fail(error), Cause.die(error)))
      expect(text.length).toBeLessThan(longestReason + 100)
      expect(text.isWellFormed()).toBe(true)
    }
  })

  it("has no stack, but a defect has its own", () => {
    const error = new WardClosed({ why: "fire" })
    expect(describeCause(Cause.fail(error))).toBe(`WardClosed {"why":"fire"}`)
    const defect = describeCause(Cause.die(error))
    expect(defect).toMatch(/^WardClosed \{"why":"fire"\}\n {4}at .*describe\.test\.ts/)
    expect(withoutStack(defect)).toBe(`WardClosed {"why":"fire"}`)
    expect(describeCause(Cause.combine(Cause.fail("first"), Cause.fail("second")))).toBe("first\nsecond")
    expect(describeCause(Cause.interrupt(1))).toBe("it was interrupted")
  })
})
