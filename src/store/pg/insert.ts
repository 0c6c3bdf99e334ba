/**
 * Carries out the declaration of a handler, in the transaction of its batch: one statement makes the rows of all answers.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { type CallField, type Declaration, type Given, type Insert, RowsDiffer } from "../../Declaration.ts"
import { rowsOf } from "./columns.ts"
import type { Compiling } from "./compiling.ts"
import { callColumn, type Compiled, identifier } from "./declared.ts"
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
  // a key that is given is not empty
  orderingKey: ["nullif(ordering_key, '') as ordering_key", (call) => call.orderingKey ?? ""],
  finishedAt: ["finished_at::pg_catalog.timestamptz as finished_at", (call) => DateTime.formatIso(call.finishedAt)]
}

/** The answers as rows `g`, with what the declaration takes of their calls: the rest would be sent for nothing. */
const given = (t: Tables, { columns }: Declaration, answers: ReadonlyArray<Given>) => {
  const text = (name: string, of: (one: Given) => string) => ({ name, type: "text" as const, values: answers.map(of) })
  const taken = [...new Set(columns.flatMap(({ source }) => source._tag === "Call" ? [source.field] : []))]
  const context = columns.some(({ source }) => source._tag === "Context")
    ? [text("context", ({ context }) => JSON.stringify(context))]
    : []
  const rows = rowsOf(t, [
    ...taken.map((field) => {
      const [, of] = facts[field]
      return text(callColumn[field], ({ call }) => of(call))
    }),
    ...context,
    text("data", ({ data }) => JSON.stringify(data))
  ])
  const json = [...context, { name: "data" }].map(({ name }) => `${name}::pg_catalog.jsonb as ${name}`)
  const selected = ["n as answer", ...taken.map((field) => facts[field][0]), ...json].join(", ")
  return t.sql`select ${t.sql.literal(selected)} from (${rows}) l`
}

/**
 * Makes the rows and writes those of one turn. Rows with the same key have turns, because one statement does not write a row
 * twice. Without a key all rows are of the first.
 *
 * Postgres returns the written rows in the order in which they were selected, one for each: so the place in this order tells
 * which id is of which row, also where the table makes the id, by a default or a trigger. The full join finds rows that a
 * trigger has left out.
 */
const statement = (
  t: Tables,
  declaration: Declaration,
  compiled: Compiled,
  answers: ReadonlyArray<Given>,
  turn: number
) => {
  const { columns, elements, id, onConflict, table } = compiled
  const alias = (name: string) => `c${columns.findIndex((column) => column.name === name)}`
  const place = elements === "" ? "1" : "i.place"
  const turns = declaration.key.length === 0
    ? "1"
    : `pg_catalog.row_number() over (partition by ${declaration.key.map(alias).join(", ")} order by answer, place)`
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

/** How a store carries out declarations. */
export const make = (t: Tables, compiling: Compiling): Insert => {
  const insert: Insert = Effect.fnUntraced(function*(declaration, answers) {
    const compiled = yield* compiling.of(declaration)
    const lines: Array<Line> = []
    for (let turn = 1, turns = 1; turn <= turns; turn++) {
      const written = yield* statement(t, declaration, compiled, answers, turn).pipe(
        Effect.tapError(() => Effect.sync(() => compiling.forget(declaration)))
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
  // these are Sluice's statements, not the handler's, and leave nothing but rows
  return (declaration, answers) => unwatched(insert(declaration, answers))
}
