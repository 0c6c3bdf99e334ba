/**
 * What a call adds to the usage: its tokens and cost by model, and that it ended.
 */
import * as Struct from "effect/Struct"
import type { CallAttempt } from "../CallAttempt.ts"
import type { CallFacts } from "../CallFacts.ts"
import type { RecordedOutput } from "../ServiceCall.ts"
import type { UsageEntry } from "../Usage.ts"

/** The most schemas of one call that usage names. */
const mostSchemas = 4

/** The distinct schemas of a call's outputs, in order; those beyond the fourth are `…`. */
export const schemasOf = (outputs: ReadonlyArray<RecordedOutput>): string => {
  const schemas = [...new Set(outputs.map(({ schema }) => schema))].sort()
  return [...schemas.slice(0, mostSchemas), ...schemas.length > mostSchemas ? ["…"] : []].join(" ")
}

const amounts = ["inputTokens", "outputTokens", "cachedInputTokens", "reasoningTokens", "cost"] as const
const names = ["provider", "requestModel", "responseModel"] as const

const entryOf = (facts: CallFacts, schemas: string): UsageEntry => ({
  schemas,
  provider: facts.provider ?? "",
  model: facts.responseModel ?? facts.requestModel ?? "",
  calls: 0,
  failed: 0,
  invalid: 0,
  attempts: 0,
  inputTokens: facts.inputTokens ?? 0,
  outputTokens: facts.outputTokens ?? 0,
  cachedInputTokens: facts.cachedInputTokens ?? 0,
  reasoningTokens: facts.reasoningTokens ?? 0,
  currency: facts.cost?.currency ?? "",
  micros: facts.cost?.micros ?? 0
})

const add = (a: UsageEntry, b: UsageEntry): UsageEntry => ({
  ...a,
  calls: a.calls + b.calls,
  failed: a.failed + b.failed,
  invalid: a.invalid + b.invalid,
  attempts: a.attempts + b.attempts,
  inputTokens: a.inputTokens + b.inputTokens,
  outputTokens: a.outputTokens + b.outputTokens,
  cachedInputTokens: a.cachedInputTokens + b.cachedInputTokens,
  reasoningTokens: a.reasoningTokens + b.reasoningTokens,
  micros: a.micros + b.micros
})

/**
 * The entries of a call that has ended: none without facts and attempts. `facts` are the call's own; what an attempt does
 * not say of itself, like the model, is taken from them. The entry of the last attempt's model counts the call.
 */
export const usageOf = (call: {
  readonly status: "succeeded" | "failed" | "invalid"
  readonly facts: CallFacts
  readonly attempts: ReadonlyArray<CallAttempt>
  readonly outputs: ReadonlyArray<RecordedOutput>
}): ReadonlyArray<UsageEntry> => {
  const { attempts, facts, outputs, status } = call
  if (attempts.length === 0 && Object.keys(facts).length === 0) return []
  const schemas = schemasOf(outputs)
  const last = attempts.at(-1)?.facts ?? {}
  // the call's own amounts, but for those that its attempts name: these count, for each of them was paid
  const rest = Struct.omit(
    facts,
    amounts.filter((name) => attempts.some((attempt) => attempt.facts[name] !== undefined))
  )
  const own = entryOf({ ...rest, ...Struct.pick(last, names) }, schemas)
  const whole: UsageEntry = {
    ...own,
    // nothing is added to the cost: the entry may stand with that of the last attempt
    currency: own.currency === "" ? last.cost?.currency ?? "" : own.currency,
    calls: 1,
    failed: status === "failed" ? 1 : 0,
    invalid: status === "invalid" ? 1 : 0,
    attempts: attempts.length > 0 ? 0 : facts.attempts ?? 0
  }
  const each = attempts.map((attempt) => ({
    ...entryOf({ ...Struct.pick(facts, names), ...attempt.facts }, schemas),
    attempts: 1
  }))
  const sums = new Map<string, UsageEntry>()
  for (const entry of [whole, ...each]) {
    const key = JSON.stringify([entry.provider, entry.model, entry.currency])
    const before = sums.get(key)
    sums.set(key, before === undefined ? entry : add(before, entry))
  }
  return [...sums.values()]
}
