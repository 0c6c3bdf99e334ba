/**
 * What calls used, in memory: equal to `store/pg/usage.ts`. Nothing is folded: a process holds all entries.
 */
import * as Duration from "effect/Duration"
import type { UsageRequest } from "../../Inspector.ts"
import type { UsageBy, UsageRow } from "../../Usage.ts"
import type { Access } from "../MemoryDatabase.ts"
import { usage as entries, type UsageEntryRow } from "./rows.ts"

const dayOf = (millis: number): string => new Date(millis).toISOString().slice(0, 10)

const keyOf: Readonly<Record<UsageBy, (row: UsageEntryRow) => string>> = {
  model: ({ model, provider }) => [provider, model].filter((name) => name !== "").join("/"),
  namespace: ({ namespace }) => namespace,
  schema: ({ schemas }) => schemas,
  day: ({ at }) => dayOf(at)
}

const sumOf = (key: string, rows: ReadonlyArray<UsageEntryRow>): UsageRow => {
  const sum = (of: (row: UsageEntryRow) => number) => rows.reduce((all, row) => all + of(row), 0)
  const costs = [...Map.groupBy(rows.filter((row) => row.currency !== ""), (row) => row.currency)]
  return {
    key,
    calls: sum((row) => row.calls),
    failed: sum((row) => row.failed),
    invalid: sum((row) => row.invalid),
    attempts: sum((row) => row.attempts),
    inputTokens: sum((row) => row.inputTokens),
    outputTokens: sum((row) => row.outputTokens),
    cachedInputTokens: sum((row) => row.cachedInputTokens),
    reasoningTokens: sum((row) => row.reasoningTokens),
    costs: costs.map(([currency, of]) => ({ currency, micros: of.reduce((all, row) => all + row.micros, 0) }))
      .sort((a, b) => (a.currency < b.currency ? -1 : 1))
  }
}

/** The sums. */
export const usage = (access: Access, { by, since }: UsageRequest, now: number): ReadonlyArray<UsageRow> => {
  const from = since === undefined ? "" : dayOf(Math.max(0, now - Duration.toMillis(Duration.fromInputUnsafe(since))))
  const rows = access.values(entries).filter((row) => dayOf(row.at) >= from)
  const tokens = (row: UsageRow) => by === "day" ? 0 : row.inputTokens + row.outputTokens
  return [...Map.groupBy(rows, keyOf[by])].map(([key, of]) => sumOf(key, of))
    .sort((a, b) => tokens(b) - tokens(a) || (a.key < b.key ? -1 : 1))
}
