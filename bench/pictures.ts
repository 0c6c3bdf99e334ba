/**
 * The pictures of each bench.
 */
import type { Row, Table } from "./harness/output.ts"
import { bars, lines } from "./harness/svg.ts"

/** A picture and its file's name. */
export interface Picture {
  readonly name: string
  readonly alt: string
  readonly svg: string
}

type Draw = (tables: ReadonlyArray<Table>) => Picture | undefined

const numberOf = (row: Row, field: string): number => {
  const value = row[field]
  return typeof value === "number" ? value : Number.NaN
}

const textOf = (row: Row, field: string): string => String(row[field] ?? "")

/** The rows of all tables with these columns that have a number in the second of them. */
const rowsWith = (tables: ReadonlyArray<Table>, label: string, value: string): ReadonlyArray<Row> =>
  tables
    .filter(({ columns }) => [label, value].every((field) => columns.some((column) => column.field === field)))
    .flatMap(({ rows }) => rows)
    .filter((row) => Number.isFinite(numberOf(row, value)))

const drain: Draw = (tables) => {
  const rows = rowsWith(tables, "system", "perSecond")
    .map((row) => ({ label: textOf(row, "system"), value: numberOf(row, "perSecond") }))
    .sort((a, b) => b.value - a.value)
  if (rows.length === 0) return undefined
  const about = { title: "Draining recorded answers of 1 KB", unit: "records a second, more is better" }
  return {
    name: "drain",
    alt: about.title,
    svg: bars(about, rows.map((row) => ({ ...row, ours: row.label.startsWith("sluice") })))
  }
}

const growth: Draw = (tables) => {
  const rows = rowsWith(tables, "case", "perSecondRatio")
  if (rows.length === 0) return undefined
  const about = {
    title: "Drain rate beside what has grown",
    unit: "of the rate of an empty database, which is 1",
    digits: 2,
    reference: 1
  }
  const all = rows.map((row) => ({
    label: `${numberOf(row, "size").toLocaleString("en-US")} ${textOf(row, "about")}`,
    value: numberOf(row, "perSecondRatio"),
    ours: true
  }))
  return { name: "growth", alt: about.title, svg: bars(about, all) }
}

const held: Draw = (tables) => {
  const rows = rowsWith(tables, "when", "perSecondRatio").filter((row) => textOf(row, "when").startsWith("tenth"))
  if (rows.length < 2) return undefined
  const about = {
    title: "Beside a snapshot that somebody holds",
    unit: "of a database in which nobody holds one, which is 1, by tenths of the time",
    digits: 2,
    reference: 1
  }
  const steps = rows.map((row) => textOf(row, "when").replace("tenth ", ""))
  const line = (name: string, field: string) => ({ name, values: rows.map((row) => numberOf(row, field)) })
  const all = [line("drain rate", "perSecondRatio"), line("claim time", "claimMillisRatio")]
  return { name: "growth-held", alt: about.title, svg: lines(about, steps, all) }
}

const poison: Draw = (tables) => {
  const rows = rowsWith(tables, "share", "ratio")
  if (rows.length === 0) return undefined
  const about = {
    title: "Drain rate while some handlers fail",
    unit: "of the rate without failures, which is 1",
    digits: 2,
    reference: 1
  }
  const all = rows.map((row) => ({
    label: `${textOf(row, "share")} % fail`,
    value: numberOf(row, "ratio"),
    ours: true
  }))
  return { name: "poison", alt: about.title, svg: bars(about, all) }
}

const idle: Draw = (tables) => {
  const rows = rowsWith(tables, "system", "statements")
    .map((row) => ({ label: textOf(row, "system"), value: numberOf(row, "statements") }))
  if (rows.length === 0) return undefined
  const about = { title: "A worker with nothing to do", unit: "statements a minute, fewer is better" }
  return {
    name: "idle",
    alt: about.title,
    svg: bars(about, rows.map((row) => ({ ...row, ours: row.label.startsWith("sluice") })))
  }
}

const drawn: Readonly<Record<string, ReadonlyArray<Draw>>> = {
  drain: [drain],
  growth: [growth, held],
  poison: [poison],
  idle: [idle]
}

/** The pictures of a bench, as far as their figures are measured. */
export const pictures = (bench: string, tables: ReadonlyArray<Table>): ReadonlyArray<Picture> =>
  (drawn[bench] ?? []).map((draw) => draw(tables)).filter((picture) => picture !== undefined)
