/**
 * Asks language models for outputs, and records the answers as calls. Works with any `LanguageModel` of `effect/ai`.
 *
 * ```ts
 * import * as Answer from "effect-sluice/ai"
 * ```
 *
 * Each function runs a call as `CallRecorder.run` does. A call that has succeeded is answered from its record. Of a call
 * that did not succeed, every answer that was paid for is kept.
 */
export { correction } from "./ai/asking.ts"
export { generateObject, type ObjectOptions } from "./ai/generateObject.ts"
export { type Called, generateToolCalls, type ToolCallOptions } from "./ai/generateToolCalls.ts"
export { type AskOptions, callIdOf, type CallOptions, type Cost, type RecordOptions } from "./ai/options.ts"
export { record, type Recorded } from "./ai/record.ts"
export { type Answerable, type Answered, AnswerForgotten, valueOf } from "./ai/recorded.ts"
export { type Repaired, type RepairOptions, repairRejected } from "./ai/repairRejected.ts"
export { type Streamed, type StreamError, streamObject } from "./ai/streamObject.ts"
