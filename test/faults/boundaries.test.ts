/**
 * A cycle, and the one that tries again what failed in it, is broken before and after each of its statements: the
 * connection is cut, or the server's process or the worker's is ended. Once the system has recovered, the tables are those
 * of an undisturbed run.
 */
import { Drain } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  type Breakable,
  breakable,
  type Breakage,
  cut,
  killed,
  sidesOf,
  type Statement,
  terminate
} from "./breakable.ts"
import { drain, dueAgain, picture, prepare, recover, reset } from "./ward.ts"

let database: Breakable
let clean: unknown
/** The statements of each cycle. */
const statements: Record<"first" | "second", ReadonlyArray<Statement>> = { first: [], second: [] }
type Cycle = keyof typeof statements

const cycle = Drain.Drain.use((drain) => drain.cycle)

/** One cycle through the proxy. It may fail: a start that is cut is made again. */
const cutCycle = () => Effect.runPromiseExit(Effect.provide(cycle, drain.pipe(Layer.provide(database.client))))

const breakages = {
  "the connection is cut at both ends": { run: cutCycle, strike: cut },
  "the server's process is terminated": { run: cutCycle, strike: terminate },
  "the worker is killed": killed("worker.ts")
}

/** Makes everything ready for a cycle. The one before it is not disturbed. */
const begin = {
  first: () => database.direct(reset),
  second: async () => {
    await database.direct(reset)
    await database.direct(Effect.provide(cycle, drain))
    await database.direct(dueAgain)
  }
}

/** The tables after the system has recovered. */
const recovered = () => database.direct(Effect.andThen(Effect.provide(recover, drain), picture))

beforeAll(async () => {
  database = await breakable()
  await database.direct(prepare)
  for (const which of ["first", "second"] as const) {
    await begin[which]()
    statements[which] = await database.statementsOf(cutCycle)
  }
  clean = await recovered()
})
afterAll(() => database.close())

describe("an undisturbed cycle", () => {
  it("does what the batch is made for", () => {
    expect(clean).toEqual({
      notes: [1, 2, 5, 6, 7].map((n) => ({ call_id: `call-${n}`, content: `note ${n}` })),
      ordered: [{ call_id: "call-2" }, { call_id: "call-6" }],
      ledger: [1, 2, 5, 6, 7].map((n) => ({ call_id: `call-${n}`, handler: "clinic/note", objects: [`call-${n}`] })),
      queue: [],
      dead: [
        { call_id: "call-3", reason: "exhausted", attempts: 2 },
        { call_id: "call-4", reason: "undecodable", attempts: 0 }
      ],
      failures: [
        { call_id: "call-3", kind: "failed", attempt: 1 },
        { call_id: "call-3", kind: "failed", attempt: 2 },
        { call_id: "call-4", kind: "undecodable", attempt: 0 }
      ]
    })
  })

  it("has transactions in it, and so has the one after it", () => {
    const count = (which: Cycle, word: RegExp) => statements[which].filter(({ text }) => word.test(text)).length
    expect(count("first", /^commit/i)).toBeGreaterThan(0)
    expect(count("first", /^rollback/i)).toBeGreaterThan(0)
    // the one that fails again, alone
    expect(count("second", /^rollback/i)).toBeGreaterThan(0)
  })
})

describe.each(Object.keys(breakages) as Array<keyof typeof breakages>)("%s", (how) => {
  it.each(["first", "second"] as const)(
    "before and after every statement of the %s cycle: the tables are the same in the end",
    async (which) => {
      // before its first beat a worker only looks at the database
      const begins = statements[which].findIndex(({ text }) => text.startsWith("with serves "))
      expect(begins).toBeGreaterThan(0)
      for (const [index, statement] of statements[which].entries()) {
        if (index < begins) continue
        for (const side of sidesOf(statement)) {
          // to a worker that is killed, after one statement is before the next, and in a transaction each is as its commit
          if (
            how === "the worker is killed" &&
            (statement.open || side === "after" && index + 1 < statements[which].length)
          ) continue
          const name = `${side} statement ${index + 1}: ${statement.text}`
          await begin[which]()
          const { run, strike }: Breakage = breakages[how]
          await database.breakAt({ number: index + 1, side, name }, strike, () => run(database), begin[which])
          expect(await recovered(), name).toEqual(clean)
        }
      }
    },
    600_000
  )
})
