/**
 * What must be true of every end of the simulation of answers, said from the plan and from what was paid.
 */
import { type Answers, type EndOfCall, mostRepairs, tokens } from "./answers.ts"

const idOf = (text: string): unknown => (JSON.parse(text) as { readonly id: unknown }).id

/** What is wrong with the chunks of a call that was not erased. */
const chunksProblem = ({ ends, outcomes, planned: { way }, repairs, status, texts }: EndOfCall): string | undefined => {
  if (repairs > mostRepairs) return `its answer was asked for again ${repairs} times`
  const found = ends.toSorted().join(", ")
  if (way === "list") return found === "dead: undecodable, persisted, persisted" ? undefined : `its elements: ${found}`
  if (status !== "succeeded") return found === "" ? undefined : `it is ${status}, and has chunks: ${found}`
  const isSaved = texts.some((text, n) => outcomes[n] === "succeeded" && text?.includes("\"isSound\":true"))
  if (isSaved && found !== "persisted") return `it has a sound answer, and its chunk: ${found}`
  if (found === "persisted" || (found === "dead: rejected" && repairs === mostRepairs)) return undefined
  return `its chunk, asked for again ${repairs} times: ${found}`
}

/** What is wrong with the status of a run that was not erased. The end of a run may have been lost, and never a success. */
const statusProblem = ({ outcomes, planned: { way }, status }: EndOfCall, isCalm: boolean): string | undefined => {
  if (typeof way === "string") return status === "succeeded" ? undefined : `it is ${status}, and was recorded`
  const last = way.at(-1)
  const may = last === "succeeds" ? ["succeeded"] : last === "failed" ? ["failed"] : ["invalid", "succeeded"]
  if (!isCalm && last !== "succeeds") may.push("running")
  if (!may.includes(status ?? "nothing")) return `it is ${status}, and its last run ${last}`
  return status === "invalid" && outcomes.at(-1) !== "invalid" ? `it is invalid, and its answer ${outcomes}` : undefined
}

const problemsOf = (end: EndOfCall, { isCalm, paid }: Answers): ReadonlyArray<string | undefined> => {
  const { again, ends, facts, factsAfter, ids, planned: { callId, way }, repairs, texts } = end
  const isNamed = (facts: object) => "promptName" in facts && facts.promptName === callId
  const kept = [
    isNamed(facts) ? undefined : `its facts: ${JSON.stringify(facts)}`,
    isNamed(factsAfter) ? undefined : `pruned, its facts: ${JSON.stringify(factsAfter)}`
  ]
  if (end.isErased) {
    return [
      ...kept,
      again === "erased" ? undefined : `it was erased, and recorded once more it is ${again}`,
      ids.length === 0 && texts.every((text) => text === null) ? undefined : "it was erased, and has content",
      ends.every((one) => one === "persisted") ? undefined : `it was erased, and has chunks: ${ends}`
    ]
  }
  const own = paid.filter((text) => String(idOf(text)).startsWith(`${callId}: `))
  const known = texts.filter((text) => text !== null)
  const isAnswered = typeof way !== "string" || repairs > 0
  return [
    ...kept,
    chunksProblem(end),
    statusProblem(end, isCalm),
    new Set(known).size === known.length ? undefined : "an answer is on record twice",
    known.length === texts.length && known.every((text) => own.includes(text))
      ? undefined
      : "its answers are not those that were given",
    // only an erasure, or a process that lost its lease, makes an answer late
    !isCalm || !end.outcomes.includes("failed") ? undefined : "an answer was paid for, and came too late",
    // a process that dies takes with it what it has not recorded
    !isCalm || own.length === texts.length
      ? undefined
      : `${own.length} answers were paid for, and ${texts.length} kept`,
    !isAnswered || ids.every((id) => id === `${callId}: recorded` || known.some((text) => idOf(text) === id))
      ? undefined
      : `its output ${ids} is no answer on record`
  ]
}

/** All that is wrong; nothing, if all is well. */
export const answerViolations = (answers: Answers): ReadonlyArray<string> => {
  const { attemptTokens, calls, ended, ledgerRows, rows, usage } = answers
  const recorded = calls.filter(({ planned }) => typeof planned.way === "string").length
  const attempts = calls.reduce((total, { texts }) => total + texts.length, 0)
  return [
    ...ended ? [] : ["it did not come to rest"],
    ...calls.flatMap((end) =>
      problemsOf(end, answers).flatMap((one) => one === undefined ? [] : [`${end.planned.callId}: ${one}`])
    ),
    ...usage.inputTokens === attemptTokens + recorded * tokens.recorded
      ? []
      : [`the usage has ${usage.inputTokens} tokens: ${attemptTokens} of answers, ${recorded} calls recorded`],
    ...usage.attempts === attempts ? [] : [`the usage has ${usage.attempts} attempts, of ${attempts}`],
    ...usage.calls >= recorded ? [] : [`the usage has ${usage.calls} calls, and ${recorded} were recorded`],
    ...String(rows) === String(ledgerRows) ? [] : [`rows of ${rows}, and in the ledger ${ledgerRows}`]
  ]
}
