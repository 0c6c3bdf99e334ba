/**
 * What a run adds to its call when it ends: rows of its attempts and of its usage, in the statement that records the end.
 * Rows are passed as one JSON text a call: most calls add nothing.
 */
import * as DateTime from "effect/DateTime"
import type { Fragment } from "effect/sql/Statement"
import type { Recording } from "../../ChunkStore.ts"
import type { Tables } from "./tables.ts"

/** What a call adds, or a run's end. */
type Added = Pick<Recording, "attempts" | "usage">

/** The attempts as JSON text; empty without any. */
export const attemptsText = ({ attempts = [] }: Added): string =>
  attempts.length === 0
    ? ""
    : JSON.stringify(attempts.map(({ at, ...attempt }, place) => ({ ...attempt, place, at: DateTime.formatIso(at) })))

/** The entries of usage as JSON text; empty without any. */
export const usageText = ({ usage = [] }: Added): string => usage.length === 0 ? "" : JSON.stringify(usage)

/**
 * Inserts what the rows of `ended` add: `call_id`, `namespace`, `finished_at`, and the texts `attempts` and `usage`, which
 * may be empty. They are ctes that follow `ended`.
 */
export const addedOf = ({ attempt, sql, usageEntry }: Tables, ended: string): Fragment =>
  sql`attempted as (
      insert into ${attempt} (call_id, place, outcome, text, length, facts, error, answered_at)
      select e.call_id, a.place, a.outcome, a.text, a.length, a.facts, a.error, a.at
      from ${sql.literal(ended)} e
      cross join lateral pg_catalog.json_to_recordset(nullif(e.attempts, '')::pg_catalog.json) as a(
        place int, outcome pg_catalog.text, text pg_catalog.text, length int, facts pg_catalog.json, error pg_catalog.text,
        at pg_catalog.timestamptz
      )
    ), used as (
      insert into ${usageEntry} (
        day, namespace, schemas, provider, model, currency, calls, failed, invalid, attempts, input_tokens, output_tokens,
        cached_input_tokens, reasoning_tokens, micros
      )
      select (pg_catalog.timezone('UTC', e.finished_at))::pg_catalog.date, e.namespace, u.schemas, u.provider, u.model, u.currency,
        u.calls, u.failed, u.invalid, u.attempts, u."inputTokens", u."outputTokens", u."cachedInputTokens", u."reasoningTokens",
        u.micros
      from ${sql.literal(ended)} e
      cross join lateral pg_catalog.json_to_recordset(nullif(e.usage, '')::pg_catalog.json) as u(
        schemas pg_catalog.text, provider pg_catalog.text, model pg_catalog.text, currency pg_catalog.text, calls int,
        failed int, invalid int, attempts bigint, "inputTokens" bigint, "outputTokens" bigint, "cachedInputTokens" bigint,
        "reasoningTokens" bigint, micros bigint
      )
    )`
