/**
 * Faults that are known and not mended yet. Whoever mends one takes it out: then a schedule that shows it fails the test.
 */
import type { Part } from "./verbs.ts"
import { printPart } from "./verbs.ts"

/** A fault that is known. */
export interface Known {
  readonly wrong: RegExp
  /** What is side by side, each part by its name. */
  readonly parts: RegExp
  readonly why: string
}

/** All of them. */
export const known: ReadonlyArray<Known> = []

/** What is known of a fault. */
export const isKnown = (wrong: string, parts: ReadonlyArray<Part>): Known | undefined => {
  const names = parts.map(printPart).join(" | ")
  return known.find((one) => one.wrong.test(wrong) && one.parts.test(names))
}
