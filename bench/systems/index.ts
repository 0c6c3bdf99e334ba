/**
 * All systems by name.
 */
import { bullMqFused, bullMqPostgres, bullMqTransaction } from "./bullMq.ts"
import { byHand } from "./byHand.ts"
import { graphileFused, graphileTransaction } from "./graphileWorker.ts"
import { graphileIdle, pgBossIdle, pgBossIdleNotify, sluiceIdle } from "./idle.ts"
import { limit } from "./limit.ts"
import { originalShape } from "./original.ts"
import { effectPersistedQueue } from "./persistedQueue.ts"
import { pgBossBatch, pgBossPerJob, pgBossSingle } from "./pgBoss.ts"
import { sluicePoison } from "./poison.ts"
import { sluiceRefusedDeclared, sluiceRefusedMany } from "./refused.ts"
import {
  limitEach,
  sluiceEachDeclared,
  sluiceEachMany,
  sluiceMixedBoth,
  sluiceMixedDeclared,
  sluiceMixedMany
} from "./shapes.ts"
import { sluiceDeclared, sluiceDeclaredOutside, sluicePerRecord, sluicePersistMany, sluiceRaw } from "./sluice.ts"
import type { System } from "./system.ts"
import { sluiceWatched } from "./watched.ts"

/** All systems by name. */
export const systems = {
  limit,
  "by-hand": byHand,
  "sluice-per-record": sluicePerRecord,
  "sluice-persist-many": sluicePersistMany,
  "sluice-declared": sluiceDeclared,
  "sluice-declared-outside": sluiceDeclaredOutside,
  "sluice-raw": sluiceRaw,
  "sluice-watched": sluiceWatched,
  "sluice-poison": sluicePoison,
  "sluice-refused-many": sluiceRefusedMany,
  "sluice-refused-declared": sluiceRefusedDeclared,
  "sluice-mixed-many": sluiceMixedMany,
  "sluice-mixed-both": sluiceMixedBoth,
  "sluice-mixed-declared": sluiceMixedDeclared,
  "limit-each": limitEach,
  "sluice-each-many": sluiceEachMany,
  "sluice-each-declared": sluiceEachDeclared,
  "pg-boss-batch": pgBossBatch,
  "pg-boss-single": pgBossSingle,
  "pg-boss-per-job": pgBossPerJob,
  "graphile-fused": graphileFused,
  "graphile-transaction": graphileTransaction,
  "bullmq-fused": bullMqFused,
  "bullmq-transaction": bullMqTransaction,
  "bullmq-postgres": bullMqPostgres,
  "effect-persisted-queue": effectPersistedQueue,
  "original-shape": originalShape,
  "sluice-idle": sluiceIdle,
  "graphile-idle": graphileIdle,
  "pg-boss-idle": pgBossIdle,
  "pg-boss-idle-notify": pgBossIdleNotify
} satisfies Readonly<Record<string, System>>

/** The name of a system. */
export type SystemName = keyof typeof systems
