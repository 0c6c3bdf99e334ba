/**
 * The verb `find`: a call as it is recorded, with its status and its attempts.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { CallAttempt } from "../../CallAttempt.ts"
import type { ChunkStore } from "../../ChunkStore.ts"
import { soundFacts } from "../../internal/soundFacts.ts"
import { traceOf } from "../../internal/trace.ts"
import type { CallStatus, ServiceCall } from "../../ServiceCall.ts"
import { toUtc } from "./chunk.ts"
import type { Engine } from "./engine.ts"
import { jsonObject } from "./json.ts"
import type { Tables } from "./tables.ts"

/** A call's row. */
export interface CallRow {
  readonly status: CallStatus
  readonly error: string | null
  readonly run_until: Date | null
  readonly call_id: string
  readonly namespace: string
  readonly service: string
  readonly correlation_id: string
  readonly context: unknown
  readonly input: unknown
  readonly facts: unknown
  readonly details: unknown
  readonly trace: unknown
  readonly outputs: unknown
  readonly ordering_key: string | null
  readonly priority: number
  readonly not_before: Date | null
  readonly started_at: Date | null
  readonly finished_at: Date | null
  readonly erased: boolean
}

/** A row of `call_attempt`. */
interface AttemptRow {
  readonly outcome: CallAttempt["outcome"]
  readonly text: string | null
  readonly length: number
  readonly facts: unknown
  readonly error: string | null
  readonly answered_at: Date
}

/** Reads a call's current row. */
export const callRow = ({ call, sql }: Tables, callId: string) =>
  sql<CallRow>`
    select status, error, run_until, call_id, namespace, service, correlation_id, context, input, facts, details, trace,
      pg_catalog.array_to_json(outputs) as outputs, ordering_key, priority, not_before, started_at, finished_at,
      erasure is not null as erased
    from ${call} where call_id = ${callId}`

const attemptRows = ({ attempt, sql }: Tables, callId: string) =>
  sql<AttemptRow>`
    select outcome, text, length, facts, error, answered_at from ${attempt}
    where call_id = ${callId} order by answered_at, place, id`

/** A call in its recorded form. Both input and outputs are absent once pruned. */
export const toCall = (row: CallRow): ServiceCall => {
  const { facts } = soundFacts(row.facts)
  const trace = traceOf(row.trace)
  return {
    callId: row.call_id,
    namespace: row.namespace,
    service: row.service,
    correlationId: row.correlation_id,
    context: jsonObject(row.context),
    // the columns contain JSON that was checked when recorded
    ...(row.input === null ? {} : { input: row.input as NonNullable<ServiceCall["input"]> }),
    ...(Object.keys(facts).length === 0 ? {} : { facts }),
    ...(row.details === null ? {} : { details: jsonObject(row.details) }),
    ...(trace === undefined ? {} : { trace }),
    outputs: (row.outputs ?? []) as ServiceCall["outputs"],
    ...(row.ordering_key === null ? {} : { orderingKey: row.ordering_key }),
    ...(row.priority === 0 ? {} : { priority: row.priority }),
    ...(row.not_before === null ? {} : { notBefore: toUtc(row.not_before) }),
    ...(row.started_at === null ? {} : { startedAt: toUtc(row.started_at) }),
    ...(row.finished_at === null ? {} : { finishedAt: toUtc(row.finished_at) })
  }
}

const toAttempt = ({ answered_at, facts, ...row }: AttemptRow): CallAttempt => ({
  ...row,
  facts: soundFacts(facts).facts,
  at: toUtc(answered_at)
})

/** The verb. */
export const find = ({ t }: Engine): ChunkStore["Service"]["find"] =>
  Effect.fnUntraced(function*(callId: string) {
    const [row] = yield* callRow(t, callId)
    if (row === undefined) return Option.none()
    const attempts = yield* attemptRows(t, callId)
    return Option.some({
      call: toCall(row),
      status: row.status,
      error: row.error ?? undefined,
      attempts: attempts.map(toAttempt)
    })
  }, t.client.statement)
