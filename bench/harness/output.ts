/**
 * What a bench prints: what it does on stderr while it does it; on stdout a table that reads the same in a terminal and
 * in markdown, or JSON lines.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

/** Prints progress to stderr. */
export const progress = (text: string): void => {
  process.stderr.write(`${text}\n`)
}

/** A line of a result: a name for the row, and its figures. */
export type Row = Readonly<Record<string, string | number | boolean | undefined>>

/** The result of a bench. */
export interface Result {
  readonly bench: string
  /** One table for each question the bench asks. */
  readonly tables: ReadonlyArray<Table>
  /** The machine and the server it ran on. */
  readonly ground: ReadonlyArray<string>
}

/** A table. */
export interface Table {
  readonly title: string
  readonly columns: ReadonlyArray<Column>
  readonly rows: ReadonlyArray<Row>
  /** Notes below the table. */
  readonly notes?: ReadonlyArray<string>
}

/** A column: which field, under which heading, with how many digits. */
export interface Column {
  readonly field: string
  readonly heading: string
  readonly digits?: number
}

const cell = (value: Row[string], digits = 0): string =>
  value === undefined || (typeof value === "number" && Number.isNaN(value))
    ? ""
    : typeof value === "number"
    ? value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    : String(value)

/** A table as markdown, its columns aligned. */
export const markdown = ({ columns, notes = [], rows, title }: Table): string => {
  const cells = rows.map((row) => columns.map(({ digits, field }) => cell(row[field], digits)))
  const numeric = columns.map(({ field }) => rows.some((row) => typeof row[field] === "number"))
  const widths = columns.map(({ heading }, index) =>
    Math.max(3, heading.length, ...cells.map((line) => line[index]?.length ?? 0))
  )
  const line = (texts: ReadonlyArray<string>) =>
    `| ${
      texts.map((text, index) =>
        numeric[index] === true ? text.padStart(widths[index] ?? 0) : text.padEnd(widths[index] ?? 0)
      ).join(" | ")
    } |`
  const rule = `| ${
    widths.map((width, index) => numeric[index] === true ? `${"-".repeat(width - 1)}:` : "-".repeat(width)).join(" | ")
  } |`
  return [
    `**${title}**`,
    "",
    line(columns.map(({ heading }) => heading)),
    rule,
    ...cells.map(line),
    ...(notes.length === 0 ? [] : ["", ...notes])
  ].join("\n")
}

/** The machine, its Node, and when. */
export const machine = (): string => {
  const cpus = os.cpus()
  const gigabytes = Math.round(os.totalmem() / 2 ** 30)
  return `${new Date().toISOString().slice(0, 10)}, ${cpus.length} × ${
    cpus[0]?.model.trim() ?? "?"
  }, ${gigabytes} GB, ${os.type()} ${os.release()}, Node ${process.version}`
}

/** Where results are kept. */
export const results = path.resolve(import.meta.dirname, "../results")

/** How a result is printed and kept. */
export interface PrintOptions {
  readonly json: boolean
  readonly save: boolean
  /** Which part of the bench it is, if not all of it: parts are kept beside each other. */
  readonly part: ReadonlyArray<string> | undefined
}

/** Prints a result; with `save` also keeps it, for `bench/README.md` to be made from. */
export const print = (result: Result, options: PrintOptions): void => {
  if (options.json) {
    for (const { rows, title } of result.tables) {
      for (const row of rows) process.stdout.write(`${JSON.stringify({ bench: result.bench, table: title, ...row })}\n`)
    }
  } else {
    process.stdout.write(`${[...result.ground, ...result.tables.map(markdown)].join("\n\n")}\n`)
  }
  if (!options.save) return
  fs.mkdirSync(results, { recursive: true })
  const name = [result.bench, ...options.part ?? []].join("-")
  fs.writeFileSync(path.join(results, `${name}.json`), `${JSON.stringify(result, undefined, 2)}\n`)
}

/** The results that are kept. */
export const saved = (): ReadonlyArray<Result> =>
  fs.existsSync(results)
    ? fs.readdirSync(results).filter((file) => file.endsWith(".json")).sort().map((file) =>
      JSON.parse(fs.readFileSync(path.join(results, file), "utf8")) as Result
    )
    : []
