/**
 * Two kinds of pictures, written by hand: horizontal bars, and lines over steps. They have no background of their own
 * and take their colours from the reader's light or dark.
 */

/** A bar: its name, its length, and whether it is one of ours. */
export interface Bar {
  readonly label: string
  readonly value: number
  readonly ours?: boolean
}

/** What both kinds have. */
interface Picture {
  readonly title: string
  /** What the numbers are, shown under the title. */
  readonly unit: string
  readonly digits?: number
  /** A value to compare with: a dashed line. */
  readonly reference?: number
}

const width = 760
const style = `
  text { fill: #1f2328; font: 13px system-ui, sans-serif }
  .title { font-size: 15px; font-weight: 600 }
  .unit { fill: #59636e }
  .bar { fill: #8c959f }
  .ours { fill: #0969da }
  .axis, .reference { stroke: #8c959f; stroke-width: 1 }
  .reference { stroke-dasharray: 4 3 }
  .line { fill: none; stroke-width: 2 }
  .c0 { stroke: #0969da } .c1 { stroke: #bc4c00 } .c2 { stroke: #1a7f37 }
  .t0 { fill: #0969da } .t1 { fill: #bc4c00 } .t2 { fill: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .unit { fill: #9198a1 }
    .bar { fill: #6e7681 }
    .ours { fill: #4493f8 }
    .c0 { stroke: #4493f8 } .c1 { stroke: #db6d28 } .c2 { stroke: #3fb950 }
    .t0 { fill: #4493f8 } .t1 { fill: #db6d28 } .t2 { fill: #3fb950 }
  }`

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("\"", "&quot;")

const told = (value: number, digits = 0): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })

const text = (x: number, y: number, content: string, more = ""): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more}>${escaped(content)}</text>`

const line = (x1: number, y1: number, x2: number, y2: number, kind: string): string =>
  `<line class="${kind}" x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}"/>`

const picture = ({ title, unit }: Picture, height: number, parts: ReadonlyArray<string>): string =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escaped(`${title}, ${unit}`)}</title>`,
    `<style>${style}\n</style>`,
    text(0, 18, title, ` class="title"`),
    text(0, 38, unit, ` class="unit"`),
    ...parts,
    "</svg>\n"
  ].join("\n")

// a letter is about so wide
const letter = 7.2
const top = 54

/** Horizontal bars, each with its value: at its end, or at the right when there is a reference. */
export const bars = (about: Picture, all: ReadonlyArray<Bar>): string => {
  const step = 24
  const left = Math.max(...all.map(({ label }) => label.length)) * letter + 10
  const right = Math.max(...all.map(({ value }) => told(value, about.digits).length)) * letter + 12
  const most = Math.max(about.reference ?? 0, ...all.map(({ value }) => value))
  const long = (value: number) => Math.max(0, value) / most * (width - left - right)
  const bottom = top + all.length * step
  const { reference } = about
  const drawn = all.map(({ label, ours, value }, index) => {
    const y = top + index * step
    return [
      text(left - 8, y + 15, label, ` text-anchor="end"`),
      `<rect class="${ours === true ? "ours" : "bar"}" x="${left.toFixed(1)}" y="${y + 3}" width="${
        Math.max(1, long(value)).toFixed(1)
      }" height="${step - 7}" rx="2"/>`,
      // beside the line of the reference they would be unreadable
      reference === undefined
        ? text(left + long(value) + 6, y + 15, told(value, about.digits))
        : text(width, y + 15, told(value, about.digits), ` text-anchor="end"`)
    ].join("\n")
  })
  return picture(about, bottom + 8, [
    line(left, top, left, bottom, "axis"),
    ...drawn,
    ...(reference === undefined
      ? []
      : [line(left + long(reference), top - 4, left + long(reference), bottom, "reference")])
  ])
}

/** A line: its name, and a value for each step. */
export interface Line {
  readonly name: string
  readonly values: ReadonlyArray<number>
}

/** Lines over steps, each with its name and its last value at its end. */
export const lines = (about: Picture, steps: ReadonlyArray<string>, all: ReadonlyArray<Line>): string => {
  const height = 200
  const ends = all.map(({ name, values }) => `${name} ${told(values.at(-1) ?? Number.NaN, about.digits)}`)
  const [left, right] = [48, Math.max(...ends.map((end) => end.length)) * letter + 14]
  const most = Math.max(about.reference ?? 0, ...all.flatMap(({ values }) => values)) * 1.05
  const x = (step: number) => left + step / Math.max(1, steps.length - 1) * (width - left - right)
  const y = (value: number) => top + height - value / most * height
  // names at the ends must not lie on each other
  const places = all.map(({ values }, index) => ({ index, y: y(values.at(-1) ?? 0) })).sort((a, b) => a.y - b.y)
  for (const [index, place] of places.entries()) {
    const above = places[index - 1]
    if (above !== undefined) place.y = Math.max(place.y, above.y + 16)
  }
  const drawn = all.map(({ values }, index) =>
    `<polyline class="line c${index % 3}" points="${
      values.map((value, step) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ")
    }"/>`
  )
  const { reference } = about
  return picture(about, top + height + 30, [
    line(left, top, left, top + height, "axis"),
    line(left, top + height, width - right, top + height, "axis"),
    text(left - 6, top + height + 4, "0", ` text-anchor="end"`),
    text(left - 6, top + 10, told(most, about.digits), ` text-anchor="end"`),
    ...(reference === undefined ? [] : [
      line(left, y(reference), width - right, y(reference), "reference"),
      text(left - 6, y(reference) + 4, told(reference, about.digits), ` text-anchor="end"`)
    ]),
    ...drawn,
    ...steps.map((step, index) => text(x(index), top + height + 20, step, ` text-anchor="middle"`)),
    ...places.map(({ index, y }) => text(width - right + 8, y + 4, ends[index] ?? "", ` class="t${index % 3}"`))
  ])
}
