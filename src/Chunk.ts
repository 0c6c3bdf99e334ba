/**
 * A chunk as a drain works on it: claimed from the queue, and what its handler made of it.
 */
import type * as DateTime from "effect/DateTime"
import type * as Schema from "effect/Schema"
import type { DomainObject } from "./DomainObject.ts"
import type { ChunkKey, TraceContext } from "./ServiceCall.ts"

/**
 * What was recorded of a chunk: its JSON, or why it cannot be handed out. The call or its output is gone, it is too long for one
 * message, or it was edited manually and holds what is not text.
 */
export type Payload = { readonly data: Schema.Json } | { readonly withheld: string }

/** A claimed chunk. Its payload, context and input are given anew each time they are asked for. */
export interface ClaimedChunk {
  /** Its place in the order of recording. */
  readonly seq: bigint
  readonly key: ChunkKey
  readonly namespace: string
  readonly schemaVersion: number
  readonly orderingKey: string | undefined
  /** Failed attempts so far. */
  readonly attempts: number
  /** Workers that died while they held it. */
  readonly crashes: number
  /** Of those, workers that had nothing else under way. */
  readonly loneCrashes: number
  readonly recordedAt: DateTime.Utc
  readonly payload: Payload
  readonly call: {
    readonly service: string
    readonly correlationId: string
    readonly context: { readonly [key: string]: Schema.Json }
    readonly input: Schema.Json
    readonly finishedAt: DateTime.Utc
    readonly trace: TraceContext | undefined
    /** How many outputs it has. */
    readonly outputs: number
  }
}

/** One line of the ledger to be written: what a chunk became. */
export interface Persisted {
  readonly chunk: ClaimedChunk
  /** `namespace/short-name`. */
  readonly handler: string
  readonly handlerVersion: number
  readonly objects: ReadonlyArray<DomainObject>
}
