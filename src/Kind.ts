/**
 * Kinds of chunks: the namespace a chunk was recorded in and the identity of its schema. A handler serves a kind, a
 * worker reports the kinds it serves, and a person pauses a kind.
 */

import { nearest } from "./internal/nearest.ts"

/** A kind of chunk. */
export interface Kind {
  /** The namespace; `*` for any, where a kind is a pattern. */
  readonly namespace: string
  /** The schema's identity; `*` for any, where a kind is a pattern. */
  readonly schemaIdentity: string
}

/** What a worker serves: a kind, up to a version of its schema. */
export interface Served extends Kind {
  /** The newest version it reads. Without one it reads all. */
  readonly version?: number | undefined
}

/** The newest version that is read: no number is above it when all are. */
export const newestRead = ({ version }: Served): number => version ?? Number.POSITIVE_INFINITY

/** What a worker leaves to other workers. */
export interface Left extends Kind {
  /** Only what is recorded at a version newer than this one. Without it, all. */
  readonly above?: number | undefined
}

/** The namespace whose handlers serve every other namespace that has none of its own. */
export const core = "core"

/** Stands for every namespace or every schema in a pattern. */
export const wildcard = "*"

/** The kind of a chunk. */
export const of = (chunk: { readonly namespace: string; readonly key: { readonly schemaIdentity: string } }): Kind => ({
  namespace: chunk.namespace,
  schemaIdentity: chunk.key.schemaIdentity
})

/** `namespace/identity`. A namespace cannot contain a slash, so two kinds never have the same text. */
export const format = ({ namespace, schemaIdentity }: Kind): string => `${namespace}/${schemaIdentity}`

/** Whether two kinds are the same. */
export const equals = (a: Kind, b: Kind): boolean =>
  a.schemaIdentity === b.schemaIdentity && a.namespace === b.namespace

/** Whether a pattern, in which `"*"` stands for everything, covers a kind. */
export const covers = (pattern: Kind, kind: Kind): boolean =>
  (pattern.namespace === wildcard || pattern.namespace === kind.namespace) &&
  (pattern.schemaIdentity === wildcard || pattern.schemaIdentity === kind.schemaIdentity)

/** Whether a handler of one kind serves another: it is of the same namespace, or of {@link core}. */
export const serves = (handler: Kind, kind: Kind): boolean =>
  handler.schemaIdentity === kind.schemaIdentity &&
  (handler.namespace === kind.namespace || handler.namespace === core)

/**
 * @internal The served kind whose namespace and identity are close to those of a kind without a handler: one of the two is
 * probably misspelt. Undefined if none is close.
 */
export const similar = (kind: Kind, served: Iterable<Kind>): Kind | undefined => {
  // a namespace and an identity are compared part by part; a handler of core serves every namespace
  const textOf = ({ namespace, schemaIdentity }: Kind) =>
    `${namespace === core ? kind.namespace : namespace}.${schemaIdentity}`
  const candidates = new Map([...served].map((one) => [textOf(one), one]))
  const found = nearest(textOf(kind), candidates.keys())
  return found === undefined ? undefined : candidates.get(found)
}
