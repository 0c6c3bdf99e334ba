/**
 * The options of all benches.
 */
import type { Version } from "../../test/support/cluster.ts"

/** The options of all benches. */
export interface BenchOptions {
  /** How many records; each bench has its own default. */
  readonly records: number | undefined
  /** How many times each is measured. */
  readonly rounds: number
  readonly postgres: Version
  /** Only these systems or cases, by name. */
  readonly only: ReadonlyArray<string> | undefined
  /** A factor for all sizes, for a short run. */
  readonly scale: number
  /** How long a snapshot is held. */
  readonly holdMinutes: number
  /** How long a long drain is. */
  readonly minutes: number
  /** How long an idle worker is watched. */
  readonly seconds: number
  /** How many microseconds each commit takes longer. */
  readonly commitDelay: number
  /** How many characters of content a record has. */
  readonly content: number
}

/** Whether a case was asked for. */
export const wanted = ({ only }: BenchOptions, name: string): boolean => only === undefined || only.includes(name)
