/**
 * What calls used: entries are folded into sums by day, and read together with those that are not folded yet.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { UsageRequest } from "../../Inspector.ts"
import { type UsageBy, UsageRow } from "../../Usage.ts"
import { readRows } from "./json.ts"
import type { Tables } from "./tables.ts"
import { ago } from "./time.ts"

/** How many entries one statement folds. */
const portion = 5000
/** How many portions one call folds at most: a beat does not take long. */
const mostPortions = 20

const names = "day, namespace, schemas, provider, model, currency"
const amounts = [
  "calls",
  "failed",
  "invalid",
  "attempts",
  "input_tokens",
  "output_tokens",
  "cached_input_tokens",
  "reasoning_tokens",
  "micros"
]
const list = amounts.join(", ")

/**
 * Folds a portion. An entry is deleted by the statement that adds it, so it counts once; a locked entry is left to the
 * transaction that holds it. Sums are written in the order of their keys, so that two folds cannot deadlock.
 */
const fold = ({ sql, usageEntry, usageTotal }: Tables) =>
  sql<{ folded: number }>`
    with picked as materialized (
      select id from ${usageEntry} limit ${portion} for update skip locked
    ), taken as (
      delete from ${usageEntry} e using picked p where e.id = p.id returning e.*
    ), summed as materialized (
      select pg_catalog.md5(pg_catalog.json_build_array(${
    sql.literal(names)
  })::pg_catalog.text)::pg_catalog.uuid as key,
        ${sql.literal(names)}, ${sql.literal(amounts.map((name) => `pg_catalog.sum(${name}) as ${name}`).join(", "))}
      from taken group by ${sql.literal(names)}
    ), added as (
      insert into ${usageTotal} as t (key, ${sql.literal(`${names}, ${list}`)})
      select key, ${sql.literal(`${names}, ${list}`)} from summed order by key
      on conflict (key) do update set ${
    sql.literal(amounts.map((name) => `${name} = t.${name} + excluded.${name}`).join(", "))
  }
    )
    select pg_catalog.count(*)::int as folded from taken`

/** Folds entries, up to a bound. Returns how many it folded. */
export const rollUp = (t: Tables): Effect.Effect<number, SqlError> =>
  Effect.gen(function*() {
    let all = 0
    for (let n = 0; n < mostPortions; n++) {
      const [row] = yield* fold(t)
      all += row?.folded ?? 0
      if ((row?.folded ?? 0) < portion) break
    }
    return all
  })

const keys: Readonly<Record<UsageBy, string>> = {
  model: "case when provider = '' then model when model = '' then provider else provider || '/' || model end",
  namespace: "namespace",
  schema: "schemas",
  day: "pg_catalog.to_char(day, 'YYYY-MM-DD')"
}

/** Sums, and what is not folded yet, in one snapshot. */
export const usage = ({ sql, usageEntry, usageTotal }: Tables, { by, since }: UsageRequest) => {
  const from = since === undefined
    ? sql`true`
    : sql`day >= (pg_catalog.timezone('UTC', ${ago({ sql }, Duration.fromInputUnsafe(since))}))::pg_catalog.date`
  const key = sql.literal(keys[by])
  return readRows(UsageRow)(sql<{ row: unknown }>`
    with line as (
      select ${key} as key, currency, ${sql.literal(list)} from ${usageTotal} where ${from}
      union all
      select ${key}, currency, ${sql.literal(list)} from ${usageEntry} where ${from}
    ), cost as (
      select key, currency, pg_catalog.sum(micros) as micros from line where currency <> '' group by key, currency
    ), summed as (
      select key, ${
    sql.literal(amounts.map((name) => `pg_catalog.sum(${name}) as ${name}`).join(", "))
  } from line group by key
    )
    select pg_catalog.json_build_object(
      'key', s.key, 'calls', s.calls, 'failed', s.failed, 'invalid', s.invalid, 'attempts', s.attempts,
      'inputTokens', s.input_tokens, 'outputTokens', s.output_tokens, 'cachedInputTokens', s.cached_input_tokens,
      'reasoningTokens', s.reasoning_tokens,
      'costs', coalesce((
        select pg_catalog.json_agg(pg_catalog.json_build_object('currency', c.currency, 'micros', c.micros) order by c.currency)
        from cost c where c.key = s.key
      ), '[]')
    ) as row
    from summed s
    order by ${sql.literal(by === "day" ? "" : "s.input_tokens + s.output_tokens desc, ")}s.key collate "C"`)
}
