/**
 * The order of measuring: each system once, then each once again, so that other work of the machine affects all alike.
 */

/** The median. */
export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** A percentile. */
export const percentile = (values: ReadonlyArray<number>, percent: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * percent / 100))] ?? Number.NaN
}

/** Figures by name. */
export type Figures = Readonly<Record<string, number>>

/** The median of each figure. */
export const medians = (runs: ReadonlyArray<Figures>): Record<string, number> => {
  const names = new Set(runs.flatMap((run) => Object.keys(run)))
  return Object.fromEntries([...names].map((name) => [name, median(runs.map((run) => run[name] ?? Number.NaN))]))
}

/** How the figures of this many rounds are described. */
export const ofRounds = (rounds: number): string => rounds === 1 ? "one round" : `medians of ${rounds} rounds`

/** Measures each of `subjects` once a round, in turns, and returns the runs of each. */
export const inTurns = async <Subject, Run>(
  subjects: ReadonlyArray<Subject>,
  rounds: number,
  measure: (subject: Subject, round: number) => Promise<Run>
): Promise<ReadonlyMap<Subject, ReadonlyArray<Run>>> => {
  const runs = new Map<Subject, Array<Run>>(subjects.map((subject) => [subject, []]))
  for (let round = 1; round <= rounds; round++) {
    for (const subject of subjects) runs.get(subject)?.push(await measure(subject, round))
  }
  return runs
}
