/**
 * All systems by name.
 */
import { bullMqFused, bullMqPostgres, bullMqTransaction } from "./bullMq.ts"
import { graphileFused, graphileTransaction } from "./graphileWorker.ts"
import { limit } from "./limit.ts"
import { originalShape } from "./original.ts"
import { effectPersistedQueue } from "./persistedQueue.ts"
import { pgBossBatch, pgBossPerJob, pgBossSingle } from "./pgBoss.ts"
import { sluicePerRecord, sluicePersistMany } from "./sluice.ts"
import type { System } from "./system.ts"

/** All systems by name. */
export const systems = {
  limit,
  "sluice-per-record": sluicePerRecord,
  "sluice-persist-many": sluicePersistMany,
  "pg-boss-batch": pgBossBatch,
  "pg-boss-single": pgBossSingle,
  "pg-boss-per-job": pgBossPerJob,
  "graphile-fused": graphileFused,
  "graphile-transaction": graphileTransaction,
  "bullmq-fused": bullMqFused,
  "bullmq-transaction": bullMqTransaction,
  "bullmq-postgres": bullMqPostgres,
  "effect-persisted-queue": effectPersistedQueue,
  "original-shape": originalShape
} satisfies Readonly<Record<string, System>>

/** The name of a system. */
export type SystemName = keyof typeof systems
