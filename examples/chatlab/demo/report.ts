/**
 * Prints what became of the calls, for people, in 80 columns.
 */
import { Inspector } from "effect-sluice"
import type { Recording } from "effect-sluice/CallLines"
import * as Effect from "effect/Effect"
import { Media } from "../Media.ts"
import { Messages } from "../Messages.ts"
import { Metadata } from "../Metadata.ts"
import { type Census, leftOf, shortName } from "./census.ts"

/** The most simulations and refused lines that are shown individually. */
const shown = 3

/** A text on one line, cut to `width` characters. */
const clip = (text: string, width: number): string => {
  const characters = [...text.slice(0, 4 * width).replaceAll(/[\s\p{Cc}]+/gu, " ")]
  return characters.length <= width ? characters.join("") : `${characters.slice(0, width - 1).join("")}…`
}

const plural = (count: number, word: string): string => `${count} ${word}${count === 1 ? "" : "s"}`

const heading = (text: string): ReadonlyArray<string> => ["", text, "─".repeat(80)]

const more = (count: number, word: string): ReadonlyArray<string> =>
  count > 0 ? [`  … and ${plural(count, `more ${word}`)}`] : []

const groupBy = <A>(rows: ReadonlyArray<A>, key: (row: A) => string): ReadonlyMap<string, ReadonlyArray<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const row of rows) {
    const group = groups.get(key(row))
    if (group === undefined) groups.set(key(row), [row])
    else group.push(row)
  }
  return groups
}

const calls = ({ recorded, refused, unchanged }: Recording): ReadonlyArray<string> => [
  ...heading("Calls"),
  `  ${recorded} recorded now, ${unchanged} known already, ${plural(refused.length, "line")} refused`,
  ...refused.slice(0, shown).map(({ line, reason }) => `  ${clip(`line ${line}: ${reason}`, 78)}`),
  ...more(refused.length - shown, "line")
]

/** What the calls used, of those that say so: a line for each model. */
const usage = Effect.gen(function*() {
  const models = yield* (yield* Inspector.Inspector).usage({ by: "model" })
  return models.map(({ calls, costs, inputTokens, key, outputTokens }) => {
    const cost = costs.map(({ currency, micros }) => `, ${(micros / 1e6).toFixed(4)} ${currency}`).join("")
    const name = key === "" ? "unknown model" : clip(key, 30)
    return `  ${clip(`${name}: ${plural(calls, "call")}, ${inputTokens} tokens in, ${outputTokens} out${cost}`, 78)}`
  })
})

const chunks = Effect.gen(function*() {
  const kinds = yield* (yield* Inspector.Inspector).status
  const columns = ["persisted", "parked", "dead", "left"]
  const cells = (values: ReadonlyArray<string | number>) => values.map((value) => String(value).padStart(11)).join("")
  return [
    ...heading("Chunks"),
    `  ${"".padEnd(34)}${cells(columns)}`,
    ...kinds.map((kind) => {
      const name = clip(`${kind.namespace}/${shortName(kind)}`, 34).padEnd(34)
      return `  ${name}${cells([kind.persisted, kind.parked, kind.dead, leftOf(kind)])}`
    })
  ]
})

const rows = Effect.gen(function*() {
  const messages = groupBy(yield* (yield* Messages).list, (row) => row.simulationId)
  const metadata = groupBy(yield* (yield* Metadata).list, (row) => row.simulationId)
  const simulations = [...new Set([...messages.keys(), ...metadata.keys()])]
  const linesOf = (id: string) => [
    ...(messages.get(id) ?? []).map(({ content, imageRequested, order }) =>
      `${String(order).padStart(3)}  ${clip(content, 63)}${imageRequested ? " [image]" : ""}`
    ),
    ...(metadata.get(id) ?? []).map(({ key, value }) => `     ${clip(`${key}: ${value}`, 71)}`)
  ]
  return simulations.slice(0, shown).flatMap((id) => {
    const lines = linesOf(id)
    return [
      `  ${clip(id, 78)}`,
      ...lines.slice(0, 10).map((line) => `    ${line}`),
      ...more(lines.length - 10, "row").map((line) => `  ${line}`)
    ]
  }).concat(more(simulations.length - shown, "simulation"))
})

/** Some lines about `count` chunks; no lines if it is 0. */
const when = (count: number, first: string, ...rest: ReadonlyArray<string>): ReadonlyArray<string> =>
  count > 0 ? [first.replace("#", plural(count, "chunk")), ...rest] : []

/** The report of a run. `created` are the events by type of object. */
export const report = Effect.fnUntraced(function*({ counts, created, persisted, recording }: {
  readonly recording: Recording
  readonly persisted: number
  readonly created: ReadonlyMap<string, number>
  readonly counts: Census
}) {
  const { attached } = yield* (yield* Media).count
  const events = [...created].map(([type, count]) => `  ${count} × ${type} created`)
  const rest = [
    ...when(
      counts.parked,
      "  # parked: no handler serves it yet. That costs nothing, and it",
      "  goes on by itself once a program with its handler runs."
    ),
    ...when(
      counts.dead,
      "  # dead: it does not decode, or its handler gave up. It is kept with",
      "  its reason, to be mended and redriven."
    ),
    ...when(counts.left, "  # waiting: behind an older one of its simulation, or for its time.")
  ]
  return [
    ...calls(recording),
    ...(yield* usage),
    ...(yield* chunks),
    ...heading("Rows"),
    `  ${plural(counts.simulations, "simulation")}, ${plural(counts.messages, "message")}, ` +
    `${counts.metadata} metadata, ${plural(attached, "image")}`,
    ...(yield* rows),
    ...heading("Events"),
    ...(events.length === 0 ? ["  None: nothing was created."] : events),
    ...heading("Left"),
    ...(rest.length === 0 ? ["  Nothing."] : rest),
    "",
    persisted > 0 || counts.left > 0
      ? `${plural(persisted, "chunk")} persisted, once each.`
      : "Nothing was persisted twice: all there is to persist had been persisted before."
  ].join("\n")
})
