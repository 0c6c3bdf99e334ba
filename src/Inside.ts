/**
 * The requests and results of the port's verbs `persistInside` and `recordInside`: the store persists chunks of a declared
 * handler by itself, without handing them to a worker.
 */
import type * as Duration from "effect/Duration"
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
  /** The kinds to leave alone, because other workers serve them; a kind of `core` stands for all namespaces. */
  readonly except?: ReadonlyArray<Left> | undefined
  /** The kinds to take in spite of `except`, because this worker has handlers of their own namespace that read them. */
  readonly own?: ReadonlyArray<Served> | undefined
  /**
   * Whether the store may report that nothing is due without a full scan, which would take long. The caller asks again soon.
   */
  readonly hasty?: boolean | undefined
}

/** A kind of chunks, and the schema that encoded them. Chunks that the handler's present schema encoded need no decoding. */
export interface InsideKind {
  /** The namespace that the handler serves; in {@link Inside.left}, that of the chunk. */
  readonly namespace: string
  /** The identity of their schema. */
  readonly schemaIdentity: string
  /** The version that the chunks were recorded at. */
  readonly version: number
  /** The fingerprint of the schema that encoded them: see `Output.encode`. */
  readonly fingerprint: number
}

/** What a declared handler does, as the store carries it out. */
export interface InsideHandler {
  /** How to make the rows. */
  readonly declaration: Declaration
  /** The handler's name, for the ledger. */
  readonly handler: string
  /** The handler's version, for the ledger. */
  readonly handlerVersion: number
  /** How long the statement may take, until it is committed. */
  readonly timeout: Duration.Duration
}

/** Which chunks to persist, and how. The limits are those of a claim. */
export interface InsideRequest extends ClaimLimits, InsideHandler {
  /** With the namespace `core`, chunks of all namespaces but {@link InsideRequest.notIn}. */
  readonly kind: InsideKind
  /** The namespaces that a handler of `core` leaves out: other handlers serve them, or they are paused. */
  readonly notIn: ReadonlyArray<string>
}

/** How a call that is not recorded yet is persisted: by one declared handler, which serves all its outputs. */
export interface RecordInsideRequest extends InsideHandler {
  /** The longest wait for a lock. While the statement waits, the call is not recorded. */
  readonly lockTimeout: Duration.Duration
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

/** The result of a request. */
export interface Inside {
  /** What it persisted, in the order of recording. */
  readonly chunks: ReadonlyArray<PersistedInside>
  /**
   * The first chunk that it left: its kind, if it can be persisted inside by a declared handler of that kind, or `"other"`,
   * if it has to be claimed. Undefined when it left nothing.
   */
  readonly left: InsideKind | "other" | undefined
  /** Whether it looked at all due chunks. */
  readonly ended: boolean
  /** True when nothing is due any more, like `last` of a claim. */
  readonly last: boolean
}
