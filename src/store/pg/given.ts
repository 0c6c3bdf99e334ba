/**
 * Converts calls to the parameters of phase 1's statements.
 */
import * as DateTime from "effect/DateTime"
import type { Recording } from "../../ChunkStore.ts"
import { type CallJson, callJson } from "../../internal/callJson.ts"
import type { CallSpec } from "../../ServiceCall.ts"
import type { Column } from "./columns.ts"

/** A call with its JSON as text. */
export interface Given {
  readonly call: Recording
  readonly text: CallJson
}

/** Serializes a call for the statements. */
export const given = (call: Recording): Given => ({ call, text: callJson(call) })

/** How long its texts are, in characters. */
export const lengthOf = (
  { call: { attempts = [] }, text: { context, details, input, outputs, trace } }: Given
): number =>
  [context, details, input, trace, ...outputs, ...attempts.map((attempt) => attempt.text ?? "")]
    .reduce((sum, text) => sum + text.length, 0)

/** A call of an ordering key has no priority: the key's order counts. */
export const priorityOf = (call: CallSpec): number => call.orderingKey === undefined ? call.priority ?? 0 : 0

/** Null for the empty text. */
export const orNull = (text: string): string | null => text === "" ? null : text

/** A time as text, the empty text when there is none. */
export const timeOf = (time: DateTime.Utc | undefined): string => time === undefined ? "" : DateTime.formatIso(time)

/**
 * What is known of calls before their services have run. In an array of texts the empty text means an absent value: none of
 * these columns can contain it, and an array of only nulls has no type.
 */
export const specColumns = (calls: ReadonlyArray<Given>): ReadonlyArray<Column> => [
  { name: "call_id", type: "text", values: calls.map(({ call }) => call.callId) },
  { name: "namespace", type: "text", values: calls.map(({ call }) => call.namespace) },
  { name: "service", type: "text", values: calls.map(({ call }) => call.service) },
  { name: "correlation_id", type: "text", values: calls.map(({ call }) => call.correlationId ?? call.callId) },
  { name: "context", type: "text", values: calls.map(({ text }) => text.context) },
  { name: "input", type: "text", values: calls.map(({ text }) => text.input) },
  { name: "ordering_key", type: "text", values: calls.map(({ call }) => call.orderingKey ?? "") }
]

/** What of it is recorded beside: none of it is the call's content. */
export const besideColumns = (calls: ReadonlyArray<Given>): ReadonlyArray<Column> => [
  { name: "facts", type: "text", values: calls.map(({ text }) => text.facts) },
  { name: "details", type: "text", values: calls.map(({ text }) => text.details) },
  { name: "trace", type: "text", values: calls.map(({ text }) => text.trace) },
  { name: "priority", type: "int", values: calls.map(({ call }) => priorityOf(call)) },
  { name: "not_before", type: "text", values: calls.map(({ call }) => timeOf(call.notBefore)) }
]
