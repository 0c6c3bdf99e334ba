/**
 * What every bench can be told.
 */
import type { Version } from "../../test/support/cluster.ts"

/** What every bench can be told. */
export interface BenchOptions {
  /** How many records; each bench has its own default. */
  readonly records: number | undefined
  /** How many times each is measured. */
  readonly rounds: number
  readonly postgres: Version
  /** Only these systems or cases, by name. */
  readonly only: ReadonlyArray<string> | undefined
}

/** Whether a case was asked for. */
export const wanted = ({ only }: BenchOptions, name: string): boolean => only === undefined || only.includes(name)
