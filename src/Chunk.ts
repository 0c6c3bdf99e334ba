/** The types for a chunk that a drain works on: the claimed chunk, and the ledger row that its handler's result becomes. */
import type * as DateTime from "effect/DateTime"
import type * as Schema from "effect/Schema"
import type { CallFacts } from "./CallFacts.ts"
import type { DomainObject } from "./DomainObject.ts"
import type { ChunkKey, TraceContext } from "./ServiceCall.ts"

/**
 * The recorded JSON of a chunk, or the reason why it cannot be given to a handler: the call or its output is gone, it is too
 * long for one message, or it was edited manually and is not valid text.
 */
export type Payload = { readonly data: Schema.Json } | { readonly withheld: string }

/** A claimed chunk. Each read of its payload, context or input gives a new copy. */
export interface ClaimedChunk {
  /** Its place in the order of recording. */
  readonly seq: bigint
  /** The call, schema and part that the chunk is of. */
  readonly key: ChunkKey
  /** The namespace of its call. */
  readonly namespace: string
  /** The version of the schema that it was recorded at. */
  readonly schemaVersion: number
  /** The fingerprint of the schema that encoded it, if `Output.encode` did. */
  readonly fingerprint?: number | undefined
  /** The ordering key of its call, if it has one. */
  readonly orderingKey: string | undefined
  /** Failed attempts so far. */
  readonly attempts: number
  /** How many workers died while they held it. */
  readonly crashes: number
  /** How many of those workers held nothing else. */
  readonly loneCrashes: number
  /** When its call was recorded, by the database's clock. */
  readonly recordedAt: DateTime.Utc
  /** The recorded answer, or why the store withholds it. */
  readonly payload: Payload
  /** The fields of the call that its handler is given. */
  readonly call: {
    readonly service: string
    readonly correlationId: string
    readonly context: { readonly [key: string]: Schema.Json }
    readonly input: Schema.Json
    /** The facts of the call; `{}` when it has none. */
    readonly facts: CallFacts
    readonly finishedAt: DateTime.Utc
    readonly trace: TraceContext | undefined
    /** How many outputs the call has. */
    readonly outputs: number
  }
}

/** One ledger row to be written: the objects made from a chunk. */
export interface Persisted {
  /** The chunk that the row is for. */
  readonly chunk: ClaimedChunk
  /** `namespace/short-name`. */
  readonly handler: string
  /** The version of the handler, from its options. */
  readonly handlerVersion: number
  /** The rows that the handler created. */
  readonly objects: ReadonlyArray<DomainObject>
}
