/**
 * Makes calls of files in other formats, such as the results of a provider's batch. A module exports a mapper as its
 * default, and `sluice record results.jsonl --via module.ts` records what it makes of each line.
 *
 * ```ts
 * const Result = Schema.Struct({ status: Schema.Int, answer: Schema.Json })
 *
 * export default LineMapper.make(({ json, key }) => {
 *   const { answer, status } = Schema.decodeUnknownSync(Result)(json)
 *   if (status !== 200) return LineMapper.refuse(`the provider says ${status}`)
 *   const service = "services.chatlab.standardized_patient.generate-reply"
 *   return {
 *     callId: key, namespace: "chatlab", service,
 *     outputs: [{ schema: PatientReply.identity, version: PatientReply.version, data: answer }]
 *   }
 * })
 * ```
 */
import type * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import type { ServiceCall } from "./ServiceCall.ts"

const TypeId = "~effect-sluice/LineMapper"

/** A line of a file: its JSON, and its number from 1. */
export interface JsonLine {
  /** What the line holds. */
  readonly json: Schema.Json
  /** The number of the line, from 1. */
  readonly number: number
}

/** A line with a result. */
export interface ResultLine extends JsonLine {
  /** What tells which request it answers. */
  readonly key: string
  /** The line of the file of requests (`--requests`) with the same key, if there is one. */
  readonly request: JsonLine | undefined
}

/** A line holds nothing to record, and that is not an error. It is counted as skipped. */
export interface Skip {
  readonly [TypeId]: "skip"
}

/** A line holds no call that can be recorded. It is reported with its number and the reason, and the command ends with 1. */
export interface Refuse {
  readonly [TypeId]: "refuse"
  /** The reason that is printed for the line. */
  readonly reason: string
}

/** What a mapper makes of a line. */
export type Mapped = ServiceCall | Skip | Refuse

/** What is made of a line: a value, a promise or an effect. What it throws or fails with refuses the line, and no other. */
export type Map = (line: ResultLine) => Mapped | Promise<Mapped> | Effect.Effect<Mapped, unknown>

/** A mapper. Made by {@link make}. */
export interface LineMapper {
  readonly [TypeId]: "mapper"
  /** Makes a call of a line. */
  readonly map: Map
  /** What tells which request a line answers; undefined where a line has none. */
  readonly key: (json: Schema.Json) => string | undefined
}

/** Nothing to record on this line. */
export const skip: Skip = { [TypeId]: "skip" }

/** Refuses a line, with a reason. */
export const refuse = (reason: string): Refuse => ({ [TypeId]: "refuse", reason })

const customId = (json: Schema.Json): string | undefined => {
  const id: unknown = Predicate.hasProperty(json, "custom_id") ? json.custom_id : undefined
  return typeof id === "string" && id !== "" ? id : undefined
}

/**
 * Makes a mapper. `key` tells which request a line answers, and which a line of the file of requests asks: their
 * `custom_id` by default, as batches of OpenAI and Anthropic have it. A line without a key is refused.
 *
 * Lines may come in any order, and again: calls are recorded by their ids, and one that is recorded is known already.
 */
export const make = (map: Map, options: { readonly key?: LineMapper["key"] } = {}): LineMapper => ({
  [TypeId]: "mapper",
  map,
  key: options.key ?? customId
})

/** Whether a value is a mapper, even one of another copy of the package. */
export const isLineMapper = (value: unknown): value is LineMapper =>
  Predicate.hasProperty(value, TypeId) && value[TypeId] === "mapper"

/** Whether a line is skipped. */
export const isSkip = (mapped: unknown): mapped is Skip =>
  Predicate.hasProperty(mapped, TypeId) && mapped[TypeId] === "skip"

/** Whether a line is refused. */
export const isRefuse = (mapped: unknown): mapped is Refuse =>
  Predicate.hasProperty(mapped, TypeId) && mapped[TypeId] === "refuse"
