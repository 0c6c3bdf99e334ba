/**
 * Faults that are known and not mended yet, and schedules that showed one that is. Whoever mends a fault takes it out, and
 * puts its schedule among the others.
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

/** Schedules that once showed a fault, each with what it was. They must show none. */
export const mended: ReadonlyArray<readonly [schedule: string, fault: string]> = [
  [
    "leased waiting waiting / erase all | once b / 1,0,0,1,1,1,0,1,0,1",
    "the erasure held c and woke b, the other held b and woke c: a deadlock"
  ],
  [
    "leased waiting waiting / once b | once c / 0,1,0,1,0,1,0,1,0,1,0,1",
    "each woke also what is before its chunk in the key: a deadlock"
  ],
  [
    "dead ready ready / erase a (read committed) | repair a / 0,0,0,1,1,1,1,1,1,0,0,0,0,0,1,1",
    "in a caller's transaction the erasure held the letter and waited for the call, the repair had them the other way: a deadlock"
  ],
  [
    "scheduled scheduled / subscribe | persist inside / 1,0,0,0,0,0 / break before 5",
    "not of the store: the schedule's end took one page of what a reader that died had left as suspects"
  ]
]

/** What is known of a fault. */
export const isKnown = (wrong: string, parts: ReadonlyArray<Part>): Known | undefined => {
  const names = parts.map(printPart).join(" | ")
  return known.find((one) => one.wrong.test(wrong) && one.parts.test(names))
}
