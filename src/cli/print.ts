/**
 * How things are printed: tables that hold in 80 columns for people, one JSON value for programs.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Pause } from "../Pauses.ts"

/** Prints a value by its schema as one line of JSON. */
export const json = <S extends Schema.Codec<unknown, unknown>>(schema: S, value: S["Type"]) =>
  Effect.flatMap(
    Effect.orDie(Schema.encodeEffect(Schema.toCodecJson(schema))(value)),
    (encoded) => Console.log(JSON.stringify(encoded))
  )

/** Cuts a text to a width. What it is indented by stays. */
export const clip = (text: string, width: number): string => {
  const indent = /^ */.exec(text)?.[0] ?? ""
  const line = indent + text.slice(indent.length).replaceAll(/[\s\p{Cc}]+/gu, " ")
  return line.length > width ? `${line.slice(0, width - 1)}…` : line
}

/** Of an error with its trace, what it says; of what does not decode, where as well. */
export const first = (message: string): string => /^.*(\n +at \[["\d].*)?/.exec(message)?.[0].replace(/\n +/, " ") ?? ""

/** A pause, in a line. */
export const pause = ({ namespace, reason, schemaIdentity }: Pause): string =>
  `paused: ${namespace}/${schemaIdentity}${reason === "" ? "" : `: ${reason}`}`

/** A number, also a rounded one. */
const isFigure = (cell: string | number | undefined): boolean =>
  typeof cell === "number" || /^\d+(\.\d)?[kMG]?$/.test(cell ?? "")

/** A table: numbers to the right, texts to the left, columns as wide as they must be. */
export const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string | number>>): string => {
  const widths = head.map((title, column) =>
    rows.reduce((most, row) => Math.max(most, String(row[column] ?? "").length), title.length)
  )
  const line = (cells: ReadonlyArray<string | number>, isHead = false) =>
    cells.map((cell, column) =>
      isFigure(cell) || (isHead && isFigure(rows[0]?.[column]))
        ? String(cell).padStart(widths[column] ?? 0)
        : String(cell).padEnd(widths[column] ?? 0)
    ).join("  ").trimEnd()
  return [line(head, true), ...rows.map((row) => line(row))].join("\n")
}

/** How long ago, in one unit. */
export const ago = (millis: number): string => {
  const units = [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1000]] as const
  const [unit, size] = units.find(([, size]) => Math.abs(millis) >= size) ?? ["ms", 1] as const
  return `${Math.round(millis / size)} ${unit}`
}

/** A figure in four columns at most, for tables that are too wide otherwise. */
export const figure = (exact: number): string => {
  const steps = [["G", 1e9], ["M", 1e6], ["k", 1e3]] as const
  const found = steps.find(([, size]) => exact >= size)
  if (found === undefined) return String(exact)
  const [unit, size] = found
  return exact / size < 10 ? `${Math.floor(exact / size * 10) / 10}${unit}` : `${Math.floor(exact / size)}${unit}`
}

/** Of identities the shortest ends that tell them apart. */
export const shortNames = (identities: Iterable<string>): (identity: string) => string => {
  const all = [...new Set(identities)].map((identity) => identity.split("."))
  const endOf = (segments: ReadonlyArray<string>, length: number) => segments.slice(-length).join(".")
  const names = new Map(all.map((segments) => {
    let length = 1
    while (
      length < segments.length && all.filter((other) => endOf(other, length) === endOf(segments, length)).length > 1
    ) {
      length++
    }
    return [segments.join("."), endOf(segments, length)]
  }))
  return (identity) => names.get(identity) ?? identity
}
