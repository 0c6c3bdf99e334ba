/**
 * What a store persists by itself for a declared handler, without handing the chunks out: the question and the answer of the
 * port's verb `persistInside`.
 */
import type * as Schema from "effect/Schema"
import type { Declaration } from "./Declaration.ts"
import type { DomainObject } from "./DomainObject.ts"
import type { Left, Served } from "./Kind.ts"
import type { ChunkKey } from "./ServiceCall.ts"

/** Which due chunks may be taken, by a claim or by the store itself. */
export interface ClaimLimits {
  /** The most chunks to take. */
  readonly limit: number
  /** The most bytes of recorded JSON to take; at least one chunk is always taken. */
  readonly maxBytes: number
  /** Only chunks of this namespace. */
  readonly namespace?: string | undefined
  /** What to leave alone, because other workers serve it; a kind of `core` stands for all namespaces. */
  readonly except?: ReadonlyArray<Left> | undefined
  /** What is not left alone for all that, because this worker has handlers of its own namespace that read it. */
  readonly own?: ReadonlyArray<Served> | undefined
  /**
   * Whether the answer may be that there is nothing where that was not looked into thoroughly, because it would take long:
   * whoever asks will ask again soon.
   */
  readonly hasty?: boolean | undefined
}

/** A kind of chunks, with what tells those that need not be decoded. */
export interface InsideKind {
  /** The namespace of the chunks; of what was left, that of the chunk. */
  readonly namespace: string
  /** The identity of their schema. */
  readonly schemaIdentity: string
  /** The version that the chunks were recorded at. */
  readonly version: number
  /** The fingerprint of the schema that encoded them: see `Output.encode`. */
  readonly fingerprint: number
}

/** Which chunks to persist, and how. The limits are those of a claim. */
export interface InsideRequest extends ClaimLimits {
  /** With the namespace `core`, chunks of all namespaces but {@link InsideRequest.notIn}. */
  readonly kind: InsideKind
  /** The namespaces that a handler of `core` does not serve, or not now. */
  readonly notIn: ReadonlyArray<string>
  /** How to make the rows. */
  readonly declaration: Declaration
  /** The handler's name, for the ledger. */
  readonly handler: string
  /** The handler's version, for the ledger. */
  readonly handlerVersion: number
}

/** A chunk that the store has persisted. */
export interface PersistedInside {
  /** Its key in the ledger. */
  readonly key: ChunkKey
  /** The namespace that its call was recorded in. */
  readonly namespace: string
  /** The service that was called. */
  readonly service: string
  /** The correlation id of its call. */
  readonly correlationId: string
  /** The context of its call. */
  readonly context: { readonly [key: string]: Schema.Json }
  /** When it was recorded, in milliseconds. */
  readonly recordedAt: number
  /** The rows that were made of it. */
  readonly objects: ReadonlyArray<DomainObject>
}

/** What a store did. */
export interface Inside {
  /** What it persisted, in the order of recording. */
  readonly chunks: ReadonlyArray<PersistedInside>
  /**
   * What stands first of what it left: a kind that can be persisted inside as well, if somebody has declared it, or `"other"`:
   * chunks to be claimed. Undefined when it left nothing.
   */
  readonly left: InsideKind | "other" | undefined
  /** Whether it looked at all that is due. */
  readonly ended: boolean
  /** True when nothing is due any more, like that of a claim. */
  readonly last: boolean
}
