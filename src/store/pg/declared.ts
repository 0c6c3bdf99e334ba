/**
 * Compiles a declaration to SQL, for the table as the database has it. Each column gets an expression over three relations:
 * `g` has the call's facts, its context and the answer; `i` has an element of an array and its place; `k` has the same of an
 * array within that element.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { type Declaration, type FieldSource, type Source, TableUnfit } from "../../Declaration.ts"
import { quote } from "../../internal/quote.ts"
import { codeOf, wordsOf } from "./errors.ts"
import { type ColumnRow, columnsOf } from "./tableColumns.ts"
import type { Tables } from "./tables.ts"

/** A declaration for one table. */
export interface Compiled {
  /** The table's name, quoted where that is necessary. */
  readonly table: string
  /** The columns that get a value, each with its expression, and its type without modifiers and with them. */
  readonly columns: ReadonlyArray<{
    readonly name: string
    readonly value: string
    readonly type: string
    readonly exact: string
  }>
  /** Joins the elements of the array, and those within them, to the answers; empty without `each`. */
  readonly elements: string
  /** The `on conflict` clause; empty without a key. */
  readonly onConflict: string
  /**
   * The columns of the key as they are compared, over the names of {@link valueName}: as their types round values and as
   * their collations compare them. `1.04` and `1.01` are the same key in a column of type `numeric(3,1)`.
   */
  readonly key: ReadonlyArray<string>
  /**
   * Whether writing it runs code of the application: it has triggers, functions in defaults or checks, or is not a plain
   * table. That code may change the session's settings.
   */
  readonly runsCode: boolean
  /** The column that names a row, and its type. */
  readonly id: string
  readonly idType: string
}

/** A text as an SQL literal, whatever `standard_conforming_strings` says. */
export const literal = (text: string): string => {
  const quoted = `'${text.replaceAll("'", "''")}'`
  return text.includes("\\") ? `E${quoted.replaceAll("\\", "\\\\")}` : quoted
}

/** A name as an SQL identifier. */
export const identifier = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

/** The name of a column's value in a row that is to be written. */
export const valueName = (columns: ReadonlyArray<{ readonly name: string }>, name: string): string =>
  `c${columns.findIndex((column) => column.name === name)}`

const valueOf = { output: "g.data", item: "i.value", inner: "k.value" } as const

const json = ({ of, path }: FieldSource): string => [valueOf[of], ...path.map(literal)].join(" -> ")

/** A value within JSON, as two expressions. */
interface Value {
  readonly json: string
  /** JSON's null becomes SQL's. */
  readonly text: string
}

/** The value at a path. The last step gives the text, because a conversion of its own would copy the value once more. */
const at = (base: string, path: ReadonlyArray<string>): Value => {
  const steps = path.map(literal)
  const last = steps.at(-1)
  return {
    json: [base, ...steps].join(" -> "),
    text: last === undefined ? `${base} #>> '{}'` : `${[base, ...steps.slice(0, -1)].join(" -> ")} ->> ${last}`
  }
}

/** Whether this is Postgres' own type of the name. The session's settings may have quoted or qualified it. */
const isOwn = (type: string | null, ...names: ReadonlyArray<string>): boolean =>
  names.includes(type?.replaceAll("\"", "").replace(/^pg_catalog\./, "") ?? "")

/** Casts a JSON value to the type of a column. JSON's null becomes SQL's. */
const cast = ({ json, text }: Value, { element, type }: ColumnRow): string => {
  if (isOwn(type, "jsonb")) return `nullif(${json}, 'null'::pg_catalog.jsonb)`
  if (isOwn(type, "json")) return `nullif(${json}, 'null'::pg_catalog.jsonb)::pg_catalog.json`
  if (element === null) return `(${text})::${type}`
  const one = isOwn(element, "jsonb", "json") ? `e.value::${element}` : `(e.value #>> '{}')::${element}`
  return `case pg_catalog.jsonb_typeof(${json}) when 'array' then array(
      select ${one} from pg_catalog.jsonb_array_elements(${json}) with ordinality as e(value, place) order by e.place
    ) else (${text})::${type} end`
}

/** The same for a JSON value that may be missing: then it is the column's default. */
const optional = (value: Value, column: ColumnRow): string =>
  column.byDefault === null
    ? cast(value, column)
    : `case when (${value.json}) is null then (${column.byDefault})::${column.type} else ${cast(value, column)} end`

/** The columns of `g` that hold the facts of a call. */
export const callColumn = {
  callId: "call_id",
  namespace: "namespace",
  service: "service",
  correlationId: "correlation_id",
  part: "part",
  orderingKey: "ordering_key",
  finishedAt: "finished_at"
} as const

const expression = (source: Source, column: ColumnRow, parent: Compiled | undefined): string => {
  switch (source._tag) {
    case "Field":
      return optional(at(valueOf[source.of], source.path), column)
    case "Call":
      return `g.${callColumn[source.field]}::${column.type}`
    case "Context": {
      const value = at("g.context", [source.key])
      // a required one is checked before the statement uses it
      return source.isRequired ? cast(value, column) : optional(value, column)
    }
    case "Place":
      return `i.place::${column.type}`
    case "InnerPlace":
      return `k.place::${column.type}`
    case "Parent": {
      const id = `g.parents ->> ${source.of === "output" ? "0" : "(i.place - 1)::pg_catalog.int4"}`
      // cast to its own type first, so that the server refuses to plan a conversion that cannot succeed
      return parent === undefined ? `(${id})::${column.type}` : `(${id})::${parent.idType}::${column.type}`
    }
    case "Constant":
      return source.value === null ? `null::${column.type}` : `${literal(String(source.value))}::${column.type}`
  }
}

/** What keeps a column from being written, if anything. */
const columnProblem = (name: string, column: ColumnRow | undefined): string | undefined => {
  if (column === undefined) return `it has no column ${quote(name)}`
  if (column.generated) return `column ${quote(name)} is generated from others`
  if (isOwn(column.type, "bytea") || isOwn(column.element, "bytea")) {
    return `column ${
      quote(name)
    } is of type ${column.type}, which no JSON is converted to: write this handler as a program`
  }
  return column.inserts ? undefined : `this role has no right to insert into column ${quote(name)}`
}

const problemOf = (declaration: Declaration, found: ReadonlyMap<string, ColumnRow>): string | undefined => {
  const { columns, id, key, overwrite } = declaration
  if (found.size === 0) return "there is no such table"
  for (const { name, source } of columns) {
    const column = found.get(name)
    const problem = columnProblem(name, column)
    if (problem !== undefined) return problem
    if (source._tag === "Constant" && source.value === null && column?.required === true && !column.triggers) {
      return `column ${quote(name)} is declared as null, and refuses null: give it another value`
    }
  }
  const named = found.get(id)
  if (named === undefined) return `it has no column ${quote(id)}, which is to name its rows`
  if (!named.selects) return `this role has no right to select column ${quote(id)}, which names its rows`
  // select is needed as well, because rows are returned for their ids. A policy that refuses some rows is no misfit
  const closed = named.closed?.find((verb) => verb !== "update" || key.length > 0)
  if (closed !== undefined) {
    return `its row security has no policy that lets this role ${closed} a row, which its declaration needs`
  }
  const refused = overwrite.find((name) => found.get(name)?.updates === false)
  if (refused !== undefined) return `this role has no right to update column ${quote(refused)}`
  const omitted = [...found.values()].filter((column) => columns.every(({ name }) => name !== column.name))
  return omitted.map(omittedProblem).find((problem) => problem !== undefined)
}

/** Why a column cannot be left to the table, if so. A trigger may give it a value. */
const omittedProblem = (
  { byDefault, generated, name, required, sequence, triggers }: ColumnRow
): string | undefined => {
  if (sequence !== null) {
    return `this role has no right to use the sequence ${sequence}, by which the table makes column ${quote(name)}`
  }
  return required && byDefault === null && !generated && !triggers
    ? `column ${quote(name)} has no default and refuses null: give it a value`
    : undefined
}

const onConflict = ({ key, overwrite }: Declaration, table: string): string => {
  const [first] = key
  if (first === undefined) return ""
  // `do nothing` returns no row, so one column is set to the value that it has
  const changes = overwrite.length === 0
    ? [`${identifier(first)} = ${table}.${identifier(first)}`]
    : overwrite.map((name) => `${identifier(name)} = excluded.${identifier(name)}`)
  return `on conflict (${key.map(identifier).join(", ")}) do update set ${changes.join(", ")}`
}

/**
 * Why the server does not plan a statement with a key. 42P10: it has found no index for the key. One that is partial or on
 * expressions does not count.
 */
const planProblem = ({ key, table }: Declaration, error: SqlError): string => {
  if (codeOf(error) !== "42P10" || key.length === 0) return wordsOf(error)
  const columns = key.map(identifier).join(", ")
  return `its key (${columns}) has no unique index that covers all rows: \`create unique index on ${table} (${columns})\``
}

/** A deferrable constraint on the columns of the key. The server refuses it only when a row is written, not in a plan. */
const deferrableOf = ({ sql }: Tables, { key, table }: Declaration) =>
  sql<{ name: string }>`
    select i.indexrelid::pg_catalog.regclass::pg_catalog.text as name
    from pg_catalog.pg_index i
    where i.indrelid = pg_catalog.to_regclass(${table}) and i.indisunique and not i.indimmediate and not exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = i.indrelid and a.attnum > 0
        -- without the columns that are only included
        and (a.attnum = any((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])) <> (a.attname::pg_catalog.text = any(${key}::pg_catalog.text[]))
    )`

const elementsOf = (array: FieldSource, alias: "i" | "k"): string =>
  `cross join lateral pg_catalog.jsonb_array_elements(
      case pg_catalog.jsonb_typeof(${json(array)}) when 'array' then ${json(array)} else '[]'::pg_catalog.jsonb end
    ) with ordinality as ${alias}(value, place)`

const elements = ({ each, inner }: Declaration): string =>
  [
    ...each === undefined ? [] : [elementsOf(each, "i")],
    ...inner === undefined ? [] : [elementsOf(inner, "k")]
  ].join("\n  ")

/** The statement that writes the rows of a relation `g`, as people read it. */
export const insertion = ({ columns, elements, id, onConflict, table }: Compiled): string =>
  [
    `insert into ${table} (${columns.map(({ name }) => identifier(name)).join(", ")}) overriding system value`,
    `select ${columns.map(({ value }) => value).join(",\n  ")}`,
    `from g ${elements}`.trimEnd(),
    ...onConflict === "" ? [] : [onConflict],
    `returning ${identifier(id)}::pg_catalog.text as id`
  ].join("\n")

/**
 * Lets the server plan the statement, without an answer. That finds what the catalog's columns do not show, such as a key
 * without a unique index, a constant that does not fit its column's type, or a missing right. The rows are written in a
 * `with`, as when there are answers: the server accepts some rules only outside of it.
 */
const plan = ({ sql }: Tables, compiled: Compiled) =>
  sql.unsafe(`explain with g as (
    select null::pg_catalog.text as call_id, null::pg_catalog.text as namespace, null::pg_catalog.text as service,
      null::pg_catalog.text as correlation_id, null::pg_catalog.text as part, null::pg_catalog.text as ordering_key,
      null::pg_catalog.timestamptz as finished_at, null::pg_catalog.jsonb as context, null::pg_catalog.jsonb as data,
      null::pg_catalog.jsonb as parents
    where false
  ), written as (${insertion(compiled)}) select from written`)

/**
 * Whether table and declaration do not fit, by the error of a statement that was only planned. It is about names, rights and
 * types (class 42), values (22), or what a view, a foreign table or a rule does not support (0A, 55000).
 */
const isUnfit = (error: SqlError): boolean => /^(42|22|0A|55000)/.test(codeOf(error) ?? "")

/**
 * Compiles a declaration without its children, or a child for its parent. Fails with {@link TableUnfit} if the table does
 * not fit it; a surrounding transaction may then be aborted.
 */
export const compile = Effect.fnUntraced(function*(
  t: Tables,
  declaration: Declaration,
  parent?: Compiled
): Effect.fn.Return<Compiled, SqlError | TableUnfit> {
  const unfit = (reason: string) => new TableUnfit({ table: declaration.table, reason })
  const told = <A>(effect: Effect.Effect<A, SqlError>) =>
    Effect.catchIf(effect, isUnfit, (error) => Effect.fail(unfit(planProblem(declaration, error))))
  const rows = yield* told(columnsOf(t, declaration.table))
  const found = new Map(rows.map((row) => [row.name, row]))
  const problem = problemOf(declaration, found)
  if (problem !== undefined) return yield* unfit(problem)
  const table = rows[0]?.relation ?? ""
  const compiled: Compiled = {
    table,
    columns: declaration.columns.flatMap(({ name, source }) => {
      const column = found.get(name)
      if (column === undefined) return []
      const { exact, type } = column
      return [{ name, value: expression(source, column, parent), type, exact }]
    }),
    elements: elements(declaration),
    onConflict: onConflict(declaration, table),
    key: declaration.key.map((name) => `${valueName(declaration.columns, name)}::${found.get(name)?.exact ?? ""}`),
    runsCode: rows.some(({ functions, triggers }) => functions || triggers),
    id: declaration.id,
    idType: found.get(declaration.id)?.type ?? ""
  }
  yield* told(plan(t, compiled))
  const [deferrable] = declaration.key.length === 0 ? [] : yield* deferrableOf(t, declaration)
  if (deferrable !== undefined) {
    return yield* unfit(
      `its key is the deferrable constraint ${deferrable.name}: Postgres overwrites rows only by one that is not deferrable`
    )
  }
  return compiled
})

/** A declaration and its children, compiled. */
export interface CompiledTables {
  readonly parent: Compiled
  readonly children: ReadonlyArray<Compiled>
}

/** Compiles a declaration and its children. */
export const compileTables = Effect.fnUntraced(function*(
  t: Tables,
  declaration: Declaration
): Effect.fn.Return<CompiledTables, SqlError | TableUnfit> {
  const parent = yield* compile(t, declaration)
  return { parent, children: yield* Effect.forEach(declaration.children, (child) => compile(t, child, parent)) }
})

/** What a declaration becomes, as people read it: a statement for each table, the parent's first. */
export const statements = (t: Tables, declaration: Declaration): Effect.Effect<string, SqlError | TableUnfit> =>
  Effect.map(
    compileTables(t, declaration),
    ({ children, parent }) => [parent, ...children].map(insertion).join(";\n")
  )
