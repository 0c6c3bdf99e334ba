/**
 * The names of the outcomes of a claimed chunk, in one table for the drain's report, the metrics and the log;
 * ARCHITECTURE.md shows it beside the states in which a chunk is left.
 *
 * The name of an outcome is the field of the report (`nothingToCreate`) and, in snake case, the label of the metric
 * (`nothing_to_create`).
 */

/** A line of the log: one for each chunk of this outcome, or one for all. */
interface LogLine {
  readonly level: "Info" | "Warn"
  readonly message: string
}

/** The outcomes, and the log line of each. Successful outcomes are not logged. */
export const outcomeWords = {
  persisted: { log: undefined },
  nothingToCreate: { log: undefined },
  alreadyPersisted: { log: undefined },
  retried: { log: { level: "Info", message: "a chunk failed and will be retried" } },
  parked: { log: { level: "Info", message: "chunks are parked" } },
  dead: { log: { level: "Warn", message: "a chunk is dead" } },
  released: { log: undefined },
  lost: { log: { level: "Warn", message: "chunks were lost to another worker: the lease ran out" } }
} as const satisfies Readonly<Record<string, { readonly log: LogLine | undefined }>>

/** The name of an outcome. */
export type OutcomeName = keyof typeof outcomeWords

/** The names of the outcomes. */
export const outcomeNames = Object.keys(outcomeWords) as ReadonlyArray<OutcomeName>

/** The label of an outcome in metrics. */
export const metricLabel = (name: OutcomeName): string => labels[name]

const labels = Object.fromEntries(
  outcomeNames.map((name) => [name, name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)])
) as Readonly<Record<OutcomeName, string>>
