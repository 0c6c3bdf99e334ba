/**
 * Splits the migrations into statements, and lists what they create.
 */
import { migrationFiles } from "./migrationFiles.ts"

/** A migration: its number, its name, and its statements for the configured schema. */
export interface Migration {
  /** Its number. Migrations run in this order, each once. */
  readonly id: number
  /** What it is called in the table of migrations that have run. */
  readonly name: string
  /** Its SQL statements, in order. */
  readonly statements: ReadonlyArray<string>
}

/** A statement ends with a semicolon at the end of a line, except within the `$$` of a function's body. */
const statementsOf = (text: string): ReadonlyArray<string> =>
  (text.replaceAll(/^\s*--.*$/gm, "").match(/(?:\$\$[^]*?\$\$|[^])*?(?:;\s*$|$(?![^]))/gm) ?? [])
    .map((statement) => statement.trim().replace(/;$/, ""))
    .filter((statement) => statement !== "")

/** The files are written for the schema `sluice`. Another name is quoted, because it may be an SQL keyword. */
const inSchema = (text: string, schema: string): string =>
  schema === "sluice"
    ? text
    : text.replaceAll(/\bsluice\./g, `"${schema}".`).replaceAll("exists sluice;", `exists "${schema}";`)

/** Migrations from files by name, in the order of their numbers. */
export const fromFiles = (files: Readonly<Record<string, string>>, schema: string): ReadonlyArray<Migration> =>
  Object.entries(files).map(([file, text]): Migration => {
    const [, id = "0", name = file] = /^(\d+)_(.+)\.sql$/.exec(file) ?? []
    return { id: Number(id), name, statements: statementsOf(inSchema(text, schema)) }
  }).sort((a, b) => a.id - b.id)

/** All migrations in order, for a Postgres schema. */
export const list = (schema: string): ReadonlyArray<Migration> => fromFiles(migrationFiles, schema)

/** A migration's name in messages: `0001_tables`. */
export const nameOf = ({ id, name }: Migration): string => `${String(id).padStart(4, "0")}_${name}`

/** Whether a statement does not block writers and cannot run in a transaction: `create index concurrently`. */
export const isConcurrent = (statement: string): boolean => /\bconcurrently\b/i.test(statement)

/** The name of the index that a statement creates. */
export const indexMadeBy = (statement: string): string | undefined =>
  /^create (?:unique )?index (?:concurrently )?(?:if not exists )?"?(\w+)"? on /i.exec(statement)?.[1]

/** The names of the objects in the schema after all migrations. */
export interface Made {
  readonly tables: ReadonlySet<string>
  readonly sequences: ReadonlySet<string>
  readonly functions: ReadonlySet<string>
  /** As `table.trigger`. */
  readonly triggers: ReadonlySet<string>
  /** The statement that creates each index. */
  readonly indexes: ReadonlyMap<string, string>
}

const makes = {
  tables: /^create (?:unlogged )?table (?:if not exists )?\S+\."?(\w+)/i,
  sequences: /^create sequence (?:if not exists )?\S+\."?(\w+)/i,
  functions: /^create (?:or replace )?(?:function|procedure) \S+\."?(\w+)/i
} as const
const drops = {
  tables: /^drop table (?:if exists )?\S+\."?(\w+)/i,
  sequences: /^drop sequence (?:if exists )?\S+\."?(\w+)/i,
  functions: /^drop (?:function|procedure) (?:if exists )?\S+\."?(\w+)/i
} as const
const madeTrigger = /^create (?:or replace )?(?:constraint )?trigger "?(\w+)"? [^]*? on \S+\."?(\w+)/i
const droppedTrigger = /^drop trigger (?:if exists )?"?(\w+)"? on \S+\."?(\w+)/i
const droppedIndex = /^drop index (?:concurrently )?(?:if exists )?\S+\."?(\w+)/i
const renamedIndex = /^alter index (?:if exists )?\S+\."?(\w+)"? rename to "?(\w+)/i

/** What these migrations create, according to their statements. */
export const madeBy = (migrations: ReadonlyArray<Migration>): Made => {
  const made = {
    tables: new Set(["migration"]),
    sequences: new Set<string>(),
    functions: new Set<string>(),
    triggers: new Set<string>(),
    indexes: new Map<string, string>()
  }
  for (const statement of migrations.flatMap(({ statements }) => statements)) {
    for (const kind of ["tables", "sequences", "functions"] as const) {
      const [, name] = makes[kind].exec(statement) ?? []
      if (name !== undefined) made[kind].add(name)
      const [, dropped] = drops[kind].exec(statement) ?? []
      if (dropped !== undefined) made[kind].delete(dropped)
    }
    const [, trigger, on] = madeTrigger.exec(statement) ?? []
    if (trigger !== undefined) made.triggers.add(`${on}.${trigger}`)
    const [, droppedFrom, from] = droppedTrigger.exec(statement) ?? []
    if (droppedFrom !== undefined) made.triggers.delete(`${from}.${droppedFrom}`)
    const index = indexMadeBy(statement)
    if (index !== undefined) made.indexes.set(index, statement)
    const [, gone] = droppedIndex.exec(statement) ?? []
    if (gone !== undefined) made.indexes.delete(gone)
    const [, old, renamed] = renamedIndex.exec(statement) ?? []
    if (old !== undefined && renamed !== undefined) {
      made.indexes.set(renamed, (made.indexes.get(old) ?? "").replace(old, renamed))
      made.indexes.delete(old)
    }
  }
  return made
}
