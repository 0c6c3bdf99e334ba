/** Makes the ordering keys of a claim unique across namespaces. */
import type { ClaimedChunk } from "../ChunkStore.ts"

/** The ordering key of a chunk, combined with the namespace it is scoped to. */
export const orderingKeyOf = ({ namespace, orderingKey }: ClaimedChunk): string | undefined =>
  orderingKey === undefined ? undefined : JSON.stringify([namespace, orderingKey])
