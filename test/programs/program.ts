/**
 * Random programs of statements, as handlers run them, and what they must come to: a model of the tables to which the
 * programs are applied one after another.
 */
import type { dice } from "../support/dice.ts"

/** The ways to say whose rows they are: the last is for the session. */
const ways = ["set local", "set_config", "set_config with a name", "function", "function for the session"] as const
export type Way = (typeof ways)[number]

/** A step of a program. */
export type Step =
  /** Reads a counter under a row lock, and writes what it read plus one. */
  | { readonly _tag: "Count"; readonly counter: number; readonly by: number }
  /** Takes the next place of a line, behind an advisory lock. */
  | { readonly _tag: "Place"; readonly line: number }
  /** Inserts a row if there is none, or adds to it. */
  | { readonly _tag: "Upsert"; readonly name: number; readonly by: number }
  /** Inserts a row if there is none, and says whether there was. */
  | { readonly _tag: "Once"; readonly name: number }
  /** Steps in a savepoint, which is rolled back at the end if it fails; the program goes on. */
  | { readonly _tag: "Savepoint"; readonly steps: ReadonlyArray<Step>; readonly fails: boolean }
  /** Says whose rows they are from here on, in one of the ways there are. */
  | { readonly _tag: "Tenant"; readonly tenant: string; readonly way: Way }
  /** Writes a row under the tenant it is told of, if it is. */
  | { readonly _tag: "Own" }
  /** Writes through a resolver that merges requests. */
  | { readonly _tag: "Request"; readonly name: number }
  /** Makes a temporary table that goes with its transaction, fills it, and writes the sum. */
  | { readonly _tag: "Scratch"; readonly values: ReadonlyArray<number> }
  /** Two statements at once, in fibers of its own. */
  | { readonly _tag: "Both"; readonly left: Step; readonly right: Step }
  | { readonly _tag: "Sleep"; readonly millis: number }
  /** Fails at the first attempts, or always. */
  | { readonly _tag: "Fail"; readonly attempts: number }

/** What a handler does. */
export interface Program {
  readonly id: string
  readonly steps: ReadonlyArray<Step>
}

type Dice = ReturnType<typeof dice>

const simple = (roll: Dice): Step => {
  switch (roll(7)) {
    case 0:
      return { _tag: "Count", counter: roll(2), by: 1 + roll(3) }
    case 1:
      return { _tag: "Place", line: roll(2) }
    case 2:
      return { _tag: "Upsert", name: roll(4), by: 1 + roll(3) }
    case 3:
      return { _tag: "Once", name: roll(6) }
    case 4:
      return { _tag: "Own" }
    case 5:
      return { _tag: "Request", name: roll(3) }
    default:
      return { _tag: "Count", counter: roll(2), by: 1 }
  }
}

const step = (roll: Dice, settings: boolean): Step => {
  switch (roll(settings ? 11 : 9)) {
    case 0:
      return {
        _tag: "Savepoint",
        steps: Array.from({ length: 1 + roll(3) }, () => simple(roll)),
        fails: roll(2) === 0
      }
    case 1:
      return { _tag: "Sleep", millis: roll(4) }
    case 2:
      return { _tag: "Both", left: { _tag: "Upsert", name: 7, by: 1 }, right: { _tag: "Upsert", name: 8, by: 1 } }
    case 3:
      return { _tag: "Fail", attempts: roll(3) === 0 ? 1000 : 1 }
    case 9:
      return {
        _tag: "Tenant",
        tenant: `tenant-${roll(3)}`,
        way: ways[roll(ways.length)]!
      }
    case 10:
      return { _tag: "Scratch", values: Array.from({ length: 1 + roll(3) }, () => roll(10)) }
    default:
      return simple(roll)
  }
}

/** So many programs. With `settings` some of them leave something in their transaction. */
export const programs = (roll: Dice, count: number): ReadonlyArray<Program> => {
  const settings = roll(2) === 0
  return Array.from({ length: count }, (_, n) => ({
    id: `call-${n}`,
    // a second table of the same name would be the program's own mistake
    steps: Array.from({ length: 1 + roll(5) }, () => step(roll, settings)).filter((one, at, all) =>
      one._tag !== "Scratch" || all.findIndex(({ _tag }) => _tag === "Scratch") === at
    )
  }))
}

/** The tables that programs work on. */
export interface Tables {
  readonly counters: Map<number, number>
  readonly places: Map<number, number>
  readonly sums: Map<number, number>
  readonly once: Map<number, string>
  /** `tenant by id`. */
  readonly owned: Array<string>
  readonly requests: Map<number, number>
  readonly scratch: Array<number>
  /** What each program was given, step by step. */
  readonly given: Array<string>
}

/** Tables in which nothing has happened. */
export const emptyTables = (): Tables => ({
  counters: new Map(),
  places: new Map(),
  sums: new Map(),
  once: new Map(),
  owned: [],
  requests: new Map(),
  scratch: [],
  given: []
})

const add = (map: Map<number, number>, key: number, by: number): number => {
  const next = (map.get(key) ?? 0) + by
  map.set(key, next)
  return next
}

const applyStep = (tables: Tables, id: string, step: Step, tenant: { name: string }): void => {
  const given = (what: unknown) => tables.given.push(`${id} ${step._tag} ${String(what)}`)
  switch (step._tag) {
    case "Count":
      given(add(tables.counters, step.counter, step.by))
      return
    case "Place":
      given(add(tables.places, step.line, 1))
      return
    case "Upsert":
      add(tables.sums, step.name, step.by)
      return
    case "Once":
      given(tables.once.has(step.name))
      if (!tables.once.has(step.name)) tables.once.set(step.name, id)
      return
    case "Savepoint": {
      const tried = step.fails ? structuredClone(tables) : tables
      for (const inner of step.steps) applyStep(tried, id, inner, step.fails ? { ...tenant } : tenant)
      return
    }
    case "Tenant":
      tenant.name = step.tenant
      return
    case "Own":
      tables.owned.push(`${tenant.name} by ${id}`)
      return
    case "Request":
      given(add(tables.requests, step.name, 1))
      return
    case "Scratch":
      tables.scratch.push(step.values.reduce((sum, value) => sum + value, 0))
      return
    case "Both":
      applyStep(tables, id, step.left, tenant)
      applyStep(tables, id, step.right, tenant)
      return
    case "Sleep":
    case "Fail":
  }
}

const contains = (steps: ReadonlyArray<Step>, is: (step: Step) => boolean): boolean =>
  steps.some((step) => is(step) || (step._tag === "Savepoint" && contains(step.steps, is)))

/** Whether a program ends badly at every attempt. */
export const isDoomed = ({ steps }: Program): boolean =>
  contains(steps, (step) => step._tag === "Fail" && step.attempts > 100)

/** The tables after these programs, one after another. */
export const applyAll = (list: ReadonlyArray<Program>): Tables => {
  const tables = emptyTables()
  for (const { id, steps } of list) {
    const tenant = { name: "nobody" }
    for (const step of steps) applyStep(tables, id, step, tenant)
  }
  return tables
}

/** Tables as text that does not depend on the order in maps and lists. */
export const printTables = (tables: Tables): Readonly<Record<string, ReadonlyArray<string>>> =>
  Object.fromEntries(
    Object.entries(tables).map(([name, table]) => [
      name,
      (table instanceof Map ? [...table].map(([key, value]) => `${key}: ${value}`) : table.map(String)).sort()
    ])
  )
