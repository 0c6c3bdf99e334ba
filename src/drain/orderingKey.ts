/**
 * What tells the ordering keys of a claim apart.
 */
import type { ClaimedChunk } from "../ChunkStore.ts"

/** The ordering key of a chunk, with the namespace within which it counts. */
export const orderingKeyOf = ({ namespace, orderingKey }: ClaimedChunk): string | undefined =>
  orderingKey === undefined ? undefined : JSON.stringify([namespace, orderingKey])
