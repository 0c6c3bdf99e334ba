/**
 * Converts a claimed row to the port's form.
 */
import * as DateTime from "effect/DateTime"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { CallFacts } from "../../CallFacts.ts"
import type { ClaimedChunk, Payload } from "../../ChunkStore.ts"
import { outputGone } from "../../internal/callJson.ts"
import { jsonProblem } from "../../internal/jsonProblem.ts"
import { soundFacts } from "../../internal/soundFacts.ts"
import { type ChunkKey, TraceContext } from "../../ServiceCall.ts"
import { at, type ClaimRow } from "./claimParts.ts"
import { jsonObject } from "./json.ts"

// Postgres has times that JavaScript lacks (`infinity`, the year 290000); a row edited manually can contain one
const isTime = (time: unknown): time is Date => time instanceof Date && !Number.isNaN(time.getTime())

/** A time from Postgres; one that JavaScript cannot represent becomes the epoch. */
export const toUtc = (time: unknown): DateTime.Utc => DateTime.fromDateUnsafe(isTime(time) ? time : new Date(0))

const isTrace = Schema.is(TraceContext)

// the column's type is json, so its text parses
const parse = (text: string | null): Schema.Json => text === null ? null : JSON.parse(text)

/** An output as read: its JSON, or its size in bytes when it is too large to send. */
export interface Output {
  readonly text: string | null
  readonly bytes: number | null
}

/** The output's data, or why it cannot be sent. */
const payloadOf = (text: string | null, bytes: number): Payload => {
  if (text === null) {
    return {
      withheld: bytes === 0
        ? outputGone
        : `output, context and input hold ${bytes} bytes of JSON, more than is handed out at once: ` +
          `see SLUICE_MAX_RESULT_BYTES, and the client's maxMessageSize`
    }
  }
  const output: unknown = parse(text)
  if (!Predicate.hasProperty(output, "data")) return { withheld: outputGone }
  const data = output.data as Schema.Json
  // the recorder rejects invalid text; a row edited manually can contain it, and only as an escape
  const problem = text.includes("\\u") ? jsonProblem(data, "data") : undefined
  return problem === undefined ? { data } : { withheld: `${problem.path} ${problem.reason}` }
}

/** Reuses the earlier string when equal: most rows of a claim share these values. */
const same = (text: string, before: string | undefined): string => text === before ? before : text

// Classes and not literals: a getter in a literal is a new shape of object for each row, and cost 2 KB of each.
class ClaimedCall {
  readonly service: string
  readonly correlationId: string
  readonly trace: TraceContext | undefined
  readonly outputs: number
  /** Bytes of context and input when these exceed the limit: then no chunk of the call can be sent. */
  readonly withheld: number
  readonly #context: string | null
  readonly #input: string | null
  readonly #facts: string | null
  readonly #finishedAt: number
  constructor(row: ClaimRow, recordedAt: number, before: ClaimedCall | undefined) {
    const callId = row[at.callId]
    const trace = row[at.trace]
    const finishedAt = row[at.finishedAt]
    this.service = same(row[at.service] ?? "", before?.service)
    this.correlationId = same(row[at.correlationId] ?? callId, callId)
    this.trace = isTrace(trace) ? trace : undefined
    this.outputs = row[at.outputs] ?? 0
    this.withheld = Math.max(0, -(row[at.withheld] ?? 0))
    this.#context = row[at.context]
    this.#input = row[at.input]
    this.#facts = row[at.facts]
    this.#finishedAt = isTime(finishedAt) ? finishedAt.getTime() : recordedAt
  }
  // parsed at each access: chunks of one call share it, and a handler's change must not reach the others
  get context(): { readonly [key: string]: Schema.Json } {
    return this.#context === null ? {} : jsonObject(parse(this.#context))
  }
  get input() {
    return parse(this.#input)
  }
  get facts(): CallFacts {
    return this.#facts === null ? {} : soundFacts(parse(this.#facts)).facts
  }
  get finishedAt() {
    return DateTime.makeUnsafe(this.#finishedAt)
  }
}

/**
 * A claimed row in the port's form. A batch lives long enough for every garbage collection to move it, which is a fifth of a
 * drain's CPU, so it holds as few objects as possible. Large values are parsed on access and not kept. Values equal to those
 * of the row `before` are shared with it.
 */
export class PgChunk implements ClaimedChunk {
  readonly seq: bigint
  readonly key: ChunkKey
  readonly namespace: string
  readonly schemaVersion: number
  readonly fingerprint: number | undefined
  readonly orderingKey: string | undefined
  readonly attempts: number
  readonly crashes: number
  readonly loneCrashes: number
  readonly call: ClaimedCall
  readonly #recordedAt: number
  readonly #bytes: number
  readonly #output: string | null
  constructor(
    row: ClaimRow,
    before?: PgChunk,
    { bytes, text }: Output = { text: row[at.output], bytes: row[at.withheld] }
  ) {
    const orderingKey = row[at.orderingKey] ?? null
    const recordedAt = row[at.recordedAt]
    this.seq = row[at.seq]!
    this.key = {
      callId: row[at.callId],
      schemaIdentity: same(row[at.schemaIdentity], before?.key.schemaIdentity),
      part: row[at.part]
    }
    this.namespace = same(row[at.namespace], before?.namespace)
    this.schemaVersion = row[at.schemaVersion]
    this.fingerprint = row[at.fingerprint] ?? undefined
    this.orderingKey = orderingKey === null ? undefined : same(orderingKey, before?.orderingKey)
    this.attempts = row[at.attempts]
    this.crashes = row[at.crashes] ?? 0
    this.loneCrashes = row[at.loneCrashes] ?? 0
    this.#recordedAt = isTime(recordedAt) ? recordedAt.getTime() : 0
    // a row that follows one of the same call has no columns of the call
    this.call = before?.key.callId === this.key.callId
      ? before.call
      : new ClaimedCall(row, this.#recordedAt, before?.call)
    this.#bytes = this.call.withheld > 0 ? this.call.withheld : bytes ?? 0
    this.#output = this.call.withheld > 0 ? null : text
  }
  get recordedAt() {
    return DateTime.makeUnsafe(this.#recordedAt)
  }
  get payload() {
    return payloadOf(this.#output, this.#bytes)
  }
}
