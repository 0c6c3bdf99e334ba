/** Finds the known name that a misspelt one probably stands for. */

/**
 * How many single-character edits lead from one text to the other: a character inserted, left out or replaced, or two
 * neighbours swapped.
 */
export const editDistance = (from: string, to: string): number => {
  const width = to.length + 1
  // a table whose cell (i, j) is the distance of the first i characters of `from` to the first j of `to`
  const cells = Array.from({ length: (from.length + 1) * width }, (_, at) => at < width ? at : 0)
  const cell = (i: number, j: number) => cells[i * width + j] ?? 0
  for (let i = 1; i <= from.length; i++) {
    cells[i * width] = i
    for (let j = 1; j <= to.length; j++) {
      const isSame = from[i - 1] === to[j - 1]
      const isSwapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1]
      cells[i * width + j] = Math.min(
        cell(i - 1, j) + 1,
        cell(i, j - 1) + 1,
        cell(i - 1, j - 1) + (isSame ? 0 : 1),
        isSwapped ? cell(i - 2, j - 2) + 1 : Number.POSITIVE_INFINITY
      )
    }
  }
  return cell(from.length, to.length)
}

/** Longer texts are no slip of the keyboard, and the table of their distance would be large. */
const longest = 200

/** The most edits of a slip: a third of the characters, and never more than three. */
const mostEdits = (from: string, to: string): number => Math.min(3, Math.floor(Math.max(from.length, to.length) / 3))

/** The distance of two names, compared part by part, or undefined if some part is too far from its counterpart. */
const slip = (from: string, to: string): number | undefined => {
  if (from.length > longest || to.length > longest) return undefined
  const theirs = to.split(".")
  const ours = from.split(".")
  if (ours.length !== theirs.length) return undefined
  let sum = 0
  for (const [at, part] of ours.entries()) {
    const other = theirs[at] ?? ""
    const distance = editDistance(part.toLowerCase(), other.toLowerCase())
    if (distance > mostEdits(part, other)) return undefined
    sum += distance
  }
  return sum <= 3 ? sum : undefined
}

/**
 * The candidate that is closest to a name, or undefined if none is close. Names with dots are compared part by part, so
 * that long common parts do not make two different short ones look alike. The name itself is no candidate.
 */
export const nearest = (name: string, candidates: Iterable<string>): string | undefined => {
  let found: { readonly candidate: string; readonly distance: number } | undefined
  for (const candidate of candidates) {
    if (candidate === name) continue
    const distance = slip(name, candidate)
    if (distance !== undefined && (found === undefined || distance < found.distance)) found = { candidate, distance }
  }
  return found?.candidate
}
