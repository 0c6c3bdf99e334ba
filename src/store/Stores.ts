/**
 * The services that every store's layer provides.
 */
import type { ChunkStore } from "../ChunkStore.ts"
import type { DeadLetters } from "../DeadLetters.ts"
import type { Erasure } from "../Erasure.ts"
import type { EventLog } from "../EventLog.ts"
import type { Inspector } from "../Inspector.ts"
import type { Pauses } from "../Pauses.ts"
import type { Retention } from "../Retention.ts"
import type { WakeUp } from "../WakeUp.ts"

/** The services of a store: the port of the drain, and those for operators and subscribers. */
export type Stores = ChunkStore | Inspector | DeadLetters | Pauses | Retention | Erasure | EventLog | WakeUp
