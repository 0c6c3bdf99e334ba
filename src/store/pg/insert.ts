/**
 * Carries out the declaration of a handler, in the transaction of its batch: one statement for each table makes the rows of
 * all answers.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { ChunkStoreError } from "../../ChunkStore.ts"
import {
  type CallField,
  type Declaration,
  type Given,
  type Insert,
  RowsDiffer,
  type Source,
  tablesOf
} from "../../Declaration.ts"
import * as DomainObject from "../../DomainObject.ts"
import { rowsOf } from "./columns.ts"
import type { Compiling } from "./compiling.ts"
import { callColumn, type Compiled, type CompiledTables, identifier, valueName } from "./declared.ts"
import { codeOf, columnOf } from "./errors.ts"
import { nameColumn } from "./refusedColumn.ts"
import { unlessLocked } from "./tableLock.ts"
import type { Tables } from "./tables.ts"
import { unwatched } from "./watch.ts"

interface Line {
  /** Which answer it is of, from 1, and its place there. Null where no row was made for an id. */
  readonly answer: number | null
  readonly place: number | null
  readonly id: string | null
  /** How many turns there are. */
  readonly turns: number
}

/** The facts of a call as text, and their columns in `g`. */
const facts: Readonly<Record<CallField, readonly [column: string, of: (call: Given["call"]) => string]>> = {
  callId: ["call_id", (call) => call.callId],
  namespace: ["namespace", (call) => call.namespace],
  service: ["service", (call) => call.service],
  correlationId: ["correlation_id", (call) => call.correlationId],
  part: ["part", (call) => call.part],
  // an ordering key is never empty
  orderingKey: ["nullif(ordering_key, '') as ordering_key", (call) => call.orderingKey ?? ""],
  finishedAt: ["finished_at::pg_catalog.timestamptz as finished_at", (call) => DateTime.formatIso(call.finishedAt)]
}

/** An answer, and the ids of its parent's rows, in the order of their elements. */
interface Answer extends Given {
  readonly parents: ReadonlyArray<string>
}

/** The answers as rows `g`, with only those facts of their calls that the declaration uses. */
const given = (t: Tables, { columns }: Declaration, answers: ReadonlyArray<Answer>) => {
  const text = (name: string, of: (one: Answer) => string) => ({ name, type: "text" as const, values: answers.map(of) })
  const taken = [...new Set(columns.flatMap(({ source }) => source._tag === "Call" ? [source.field] : []))]
  const takes = (tag: Source["_tag"]) => columns.some(({ source }) => source._tag === tag)
  const json = [
    ...takes("Context") ? [text("context", ({ context }) => JSON.stringify(context))] : [],
    ...takes("Parent") ? [text("parents", ({ parents }) => JSON.stringify(parents))] : [],
    text("data", ({ data }) => JSON.stringify(data))
  ]
  const rows = rowsOf(t, [
    ...taken.map((field) => {
      const [, of] = facts[field]
      return text(callColumn[field], ({ call }) => of(call))
    }),
    ...json
  ])
  const read = json.map(({ name }) => `${name}::pg_catalog.jsonb as ${name}`)
  const selected = ["n as answer", ...taken.map((field) => facts[field][0]), ...read].join(", ")
  return t.sql`select ${t.sql.literal(selected)} from (${rows}) l`
}

/**
 * Makes the rows and writes those of one turn. Rows with the same key get different turns, because one statement cannot
 * write a row twice. Without a key all rows are of the first turn.
 *
 * Postgres returns the written rows in the order in which they were selected, one for each. So the place in this order shows
 * which id belongs to which row, even if a default or a trigger makes the id. The full join finds rows that a trigger has
 * left out.
 */
const statement = (
  t: Tables,
  declaration: Declaration,
  compiled: Compiled,
  answers: ReadonlyArray<Answer>,
  turn: number
) => {
  const { columns, elements, id, key, onConflict, table } = compiled
  const alias = (name: string) => valueName(columns, name)
  const place = declaration.inner !== undefined
    ? "pg_catalog.row_number() over (partition by g.answer order by i.place, k.place)"
    : elements === ""
    ? "1"
    : "i.place"
  const turns = key.length === 0
    ? "1"
    : `pg_catalog.row_number() over (partition by ${key.join(", ")} order by answer, place)`
  const text = t.sql.literal
  return t.sql<Line>`
    with g as materialized (
      ${given(t, declaration, answers)}
    ), made as (
      select g.answer, ${text(place)} as place, ${
    text(columns.map(({ name, value }) => `${value} as ${alias(name)}`).join(", "))
  }
      from g ${text(elements)}
    ), line as materialized (
      select *, ${text(turns)} as turn from made
    ), written as (
      insert into ${text(table)} (${
    text(columns.map(({ name }) => identifier(name)).join(", "))
  }) overriding system value
      select ${text(columns.map(({ name }) => alias(name)).join(", "))} from line where turn = ${turn}
      order by answer, place
      ${text(onConflict)}
      returning ${text(identifier(id))}::pg_catalog.text as id
    )
    select l.answer::int as answer, l.place::int as place, w.id,
      (select coalesce(pg_catalog.max(turn), 0) from line)::int as turns
    from (select answer, place, pg_catalog.row_number() over (order by answer, place) as ordinal from line where turn = ${turn}) l
    full join (select id, pg_catalog.row_number() over () as ordinal from written) w on w.ordinal = l.ordinal
    order by 1, 2`
}

/**
 * Whether an error may show that the table has changed since the declaration was compiled: names are gone (class 42), it has
 * a rule (class 0A), or a column that it does not write refuses null.
 */
const mayHaveChanged = (error: SqlError, declaration: Declaration): boolean => {
  const code = codeOf(error) ?? ""
  const column = columnOf(error)
  return /^(42|0A)/.test(code) || (
    code === "23502" && !tablesOf(declaration).some(({ columns }) => columns.some(({ name }) => name === column))
  )
}

/** The error when the table may have changed. The next try compiles the declaration anew, and no chunk is charged. */
const changed = (cause: SqlError): ChunkStoreError =>
  new ChunkStoreError({
    operation: "persist",
    transient: true,
    reason: "the table has changed since its declaration was compiled",
    cause
  })

/** How a store carries out declarations. */
export const make = (t: Tables, compiling: Compiling): Insert => {
  /** Writes the rows of one table. Returns their ids for each answer. */
  const write = Effect.fnUntraced(function*(
    declaration: Declaration,
    compiled: Compiled,
    answers: ReadonlyArray<Answer>
  ) {
    const lines: Array<Line> = []
    for (let turn = 1, turns = 1; turn <= turns; turn++) {
      const written = yield* Effect.tapError(
        statement(t, declaration, compiled, answers, turn),
        (error) => Effect.sync(() => nameColumn(error, declaration, compiled, answers))
      )
      lines.push(...written)
      turns = written[0]?.turns ?? 0
    }
    const ids: Array<Array<string>> = answers.map(() => [])
    lines.sort((a, b) => (a.answer ?? 0) - (b.answer ?? 0) || (a.place ?? 0) - (b.place ?? 0))
    for (const { answer, id } of lines) {
      if (answer === null || id === null) {
        return yield* new RowsDiffer({
          table: declaration.table,
          declared: lines.filter((line) => line.answer !== null).length,
          written: lines.filter((line) => line.id !== null).length
        })
      }
      ids[answer - 1]?.push(id)
    }
    return ids
  })

  const rows = Effect.fnUntraced(function*(
    declaration: Declaration,
    compiled: CompiledTables,
    given: ReadonlyArray<Given>
  ) {
    const named = (object: string) => (id: string) => DomainObject.make(object, id)
    const parents = yield* write(declaration, compiled.parent, given.map((one) => ({ ...one, parents: [] })))
    const objects = parents.map((ids) => ids.map(named(declaration.object)))
    const answers = given.map((one, index) => ({ ...one, parents: parents[index] ?? [] }))
    for (const [index, table] of compiled.children.entries()) {
      const child = declaration.children[index]
      if (child === undefined) continue
      const ids = yield* write(child, table, answers)
      ids.forEach((some, index) => objects[index]?.push(...some.map(named(child.object))))
    }
    return objects
  })

  const insert: Insert = Effect.fnUntraced(function*(declaration, given) {
    // all tables are checked before a row is written: no answer is at fault for a table that does not fit
    const wasKnown = compiling.isKnown(declaration)
    const compiled = yield* compiling.of(declaration)
    return yield* Effect.mapError(rows(declaration, compiled, given), (error) => {
      compiling.failed(declaration, error)
      return wasKnown && isSqlError(error) && mayHaveChanged(error, declaration) ? changed(error) : error
    })
  })
  // these are Sluice's statements, not the handler's, and leave nothing but rows
  return (declaration, answers) => unwatched(unlessLocked(t, declaration)(insert(declaration, answers)))
}
