/**
 * Prints every answer of a command: tables that fit in 80 columns for people, one JSON value for programs. Text from outside
 * (ids, reasons, messages) cannot control the terminal, and cannot start a new line.
 */
import * as CliOutput from "effect/cli/CliOutput"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ParkReason } from "../ChunkStore.ts"
import { escape, escapeProse, escapeUnsafe } from "../internal/escape.ts"
import type { Pause } from "../Pauses.ts"

/** Encodes a value by its schema and prints it as one line of JSON, with invisible characters escaped. */
export const json = <S extends Schema.Codec<unknown, unknown>>(schema: S, value: S["Type"]) =>
  Effect.flatMap(
    Effect.orDie(Schema.encodeEffect(Schema.toCodecJson(schema))(value)),
    (encoded) => Console.log(jsonText(encoded))
  )

/** A value as one line of JSON, with invisible characters escaped. */
export const jsonText = (value: unknown): string => escapeUnsafe(JSON.stringify(value))

/** A text, escaped for one line of a terminal. */
export const visible = escapeProse

/** Prints texts, each escaped to one line. */
export const lines = (texts: ReadonlyArray<string>) =>
  texts.length === 0 ? Effect.void : Console.log(texts.map(escapeProse).join("\n"))

/** Prints a text, escaped to one line. */
export const line = (text: string) => lines([text])

/** Prints Sluice's own text, for example a table or a script. Its line ends stay. */
export const text = (own: string) => lines(own.split("\n"))

const widthOf = (text: string): number => /^[\x20-\x7e]*$/.test(text) ? text.length : CliOutput.displayWidth(text)
const pad = (text: string, width: number): string => text + " ".repeat(Math.max(0, width - widthOf(text)))

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" })

/** The beginning of a text, at most `width` columns wide. */
const cut = (text: string, width: number): string => {
  let found = ""
  let columns = 0
  for (const { segment } of graphemes.segment(text)) {
    columns += widthOf(segment)
    if (columns > width) break
    found += segment
  }
  return found
}

/** A text on one line, cut to a width. Its indentation stays. */
export const clip = (text: string, width: number): string => {
  const indent = /^ */.exec(text)?.[0] ?? ""
  const line = indent + escapeProse(text.slice(indent.length).replaceAll(/\s+/gu, " "))
  return widthOf(line) > width ? `${cut(line, width - 1)}…` : line
}

/** The columns and rows of the terminal that shows the answer; infinite if a program reads it, or the size is unknown. */
export const screen = (): { readonly columns: number; readonly rows: number } => {
  const { columns, isTTY, rows } = process.stdout
  // a terminal that a program made may say that it has no columns
  const known = (size: number) => isTTY && size > 0 ? size : Number.POSITIVE_INFINITY
  return { columns: known(columns), rows: known(rows) }
}

/** Prose on one line, as wide as the terminal; in a pipe or a file all of it. */
export const fit = (text: string): string => clip(text, screen().columns)

/** Breaks a text between words into lines of at most this width. */
export const fill = (text: string, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  let current = ""
  for (const word of text.split(" ")) {
    if (current !== "" && widthOf(`${current} ${word}`) > width) {
      lines.push(current)
      current = word
    } else current = current === "" ? word : `${current} ${word}`
  }
  return [...lines, current]
}

const mostLines = 100

/** A text of several lines, each marked, so that text from outside is not mistaken for Sluice's own. */
export const marked = (text: string, indent = "  "): ReadonlyArray<string> => {
  const all = text.split("\n")
  return [
    ...all.slice(0, mostLines).map((line) => `${indent}| ${escapeProse(line)}`),
    ...more(all.length, mostLines, "lines", "--json has all").map((text) => `${indent}${text}`)
  ]
}

/** A kind, by its namespace and the name of its schema. */
export const kind = (namespace: string, name: string): string => `${escape(namespace)}/${escape(name)}`

/** How many there are of something, in words: `1 chunk`, `2 chunks`. */
export const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`

/** A line that says how many more there are and how to see them; no line if all are shown. */
export const more = (all: number, shown: number, what: string, how: string): ReadonlyArray<string> =>
  all > shown ? [`… and ${all - shown} more ${what}: ${how}`] : []

/** The first line of an error message without its trace; for a decoding error also the path. */
export const first = (message: string): string =>
  /^.*(\n +at \[["\d].*)?/.exec(message.trimStart())?.[0].replace(/\n +/, " ") ?? ""

/** A pause, as one line. */
export const pause = ({ namespace, reason, schemaIdentity }: Pause): string =>
  `paused: ${kind(namespace, schemaIdentity)}${reason === "" ? "" : `: ${reason}`}`

/** Why a chunk is parked. */
export const parked = (reason: ParkReason | null): string => {
  switch (reason) {
    case "paused":
      return "paused: see `sluice status`"
    case "newer-version":
      return "recorded at a newer version than any worker so far reads: see `sluice handlers`"
    default:
      return "no handler, or it lacks a fitting table or a service: see `sluice handlers`"
  }
}

/** A number, also a rounded one. */
const isFigure = (cell: string | number | undefined): boolean =>
  typeof cell === "number" || /^\d+(\.\d)?[kMG]?$/.test(cell ?? "")

/** A table: numbers aligned right, texts left, columns as narrow as possible. */
export const table = (head: ReadonlyArray<string>, cells: ReadonlyArray<ReadonlyArray<string | number>>): string => {
  const rows = cells.map((row) => row.map((cell) => typeof cell === "string" ? escapeProse(cell) : cell))
  const widths = head.map((title, column) =>
    rows.reduce((most, row) => Math.max(most, widthOf(String(row[column] ?? ""))), title.length)
  )
  const line = (cells: ReadonlyArray<string | number>, isHead = false) =>
    cells.map((cell, column) =>
      isFigure(cell) || (isHead && isFigure(rows[0]?.[column]))
        ? String(cell).padStart(widths[column] ?? 0)
        : pad(String(cell), widths[column] ?? 0)
    ).join("  ").trimEnd()
  return [line(head, true), ...rows.map((row) => line(row))].join("\n")
}

/**
 * An age in milliseconds, rounded to one unit. Never negative: two machines' clocks differ, and a server's may be set back.
 */
export const ago = (difference: number): string => {
  const millis = Math.max(0, difference)
  const units = [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1000]] as const
  const [unit, size] = units.find(([, size]) => millis >= size) ?? ["ms", 1] as const
  return `${Math.round(millis / size)} ${unit}`
}

/** A number in at most four columns, rounded down, for tables that are too wide otherwise. */
export const figure = (exact: number): string => {
  const steps = [["G", 1e9], ["M", 1e6], ["k", 1e3]] as const
  const found = steps.find(([, size]) => exact >= size)
  if (found === undefined) return String(exact)
  const [unit, size] = found
  return exact / size < 10 ? `${Math.floor(exact / size * 10) / 10}${unit}` : `${Math.floor(exact / size)}${unit}`
}

// an identity has four segments; one that was edited manually may have any number
const mostSegments = 8

/** The suffixes of an identity, split at its dots, the shortest first. */
const endsOf = (identity: string): ReadonlyArray<string> => {
  const segments = identity.split(".")
  return segments.length > mostSegments
    ? [identity]
    : segments.map((_, index) => segments.slice(-index - 1).join("."))
}

/** The shortest suffix of each identity that no other identity has. */
export const shortNames = (identities: Iterable<string>): (identity: string) => string => {
  const all = [...new Set(identities)].map((identity) => ({ identity, ends: endsOf(identity) }))
  const counts = new Map<string, number>()
  for (const { ends } of all) for (const end of ends) counts.set(end, (counts.get(end) ?? 0) + 1)
  const names = new Map(
    all.map(({ ends, identity }) => [identity, ends.find((end) => counts.get(end) === 1) ?? identity])
  )
  return (identity) => names.get(identity) ?? identity
}
