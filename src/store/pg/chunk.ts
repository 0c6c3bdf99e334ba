/**
 * A claimed row in the port's words.
 */
import * as DateTime from "effect/DateTime"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { ClaimedChunk } from "../../ChunkStore.ts"
import { TraceContext } from "../../ServiceCall.ts"
import type { ClaimRow } from "./claim.ts"
import { jsonObject } from "./json.ts"

/** Postgres knows times that JavaScript does not (`infinity`, the year 290000); a hand can have written one. */
export const toUtc = (...times: ReadonlyArray<unknown>): DateTime.Utc => {
  const good = times.find((time) => time instanceof Date && !Number.isNaN(time.getTime()))
  return DateTime.fromDateUnsafe(good instanceof Date ? good : new Date(0))
}

const isTrace = Schema.is(TraceContext)

// the column's type is json: whatever stands in it parses
const parse = (text: string | null): Schema.Json => text === null ? null : JSON.parse(text)

/** The output's data; `undefined` when the call, its outputs or this one of them is gone or no output. */
const dataOf = (text: string | null): Schema.Json | undefined => {
  const outputs = parse(text)
  const output: unknown = Array.isArray(outputs) ? outputs[0] : undefined
  return Predicate.isObject(output) && Object.hasOwn(output, "data")
    ? (output as { readonly data: Schema.Json }).data
    : undefined
}

/** A claimed row in the port's words. */
export const toChunk = (row: ClaimRow): ClaimedChunk => {
  let input: Schema.Json | undefined
  return {
    seq: row.seq!,
    key: { callId: row.call_id, schemaIdentity: row.schema_identity, part: row.part },
    namespace: row.namespace,
    schemaVersion: row.schema_version,
    orderingKey: row.ordering_key ?? undefined,
    attempts: row.attempts,
    crashes: row.crashes,
    loneCrashes: row.lone_crashes,
    recordedAt: toUtc(row.recorded_at),
    bytes: row.bytes,
    data: dataOf(row.output),
    call: {
      service: row.service ?? "",
      correlationId: row.correlation_id ?? row.call_id,
      context: jsonObject(parse(row.context)),
      // few handlers ask for it
      get input() {
        return input ??= parse(row.input)
      },
      finishedAt: toUtc(row.finished_at, row.recorded_at),
      trace: isTrace(row.trace) ? row.trace : undefined
    }
  }
}
