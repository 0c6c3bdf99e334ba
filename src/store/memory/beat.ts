/**
 * The verb `beat` in memory: it equals `store/pg/beat.ts`.
 */
import * as Duration from "effect/Duration"
import { aliveFor, type Beat, rememberedFor } from "../../ChunkStore.ts"
import * as Kind from "../../Kind.ts"
import type { Access } from "../MemoryDatabase.ts"
import { kindKey, pauses, queue, seqKey, workers } from "./rows.ts"

/** How long after its last beat a worker counts as alive, in milliseconds. */
export const alive = Duration.toMillis(aliveFor)
const remembered = Duration.toMillis(rememberedFor)

/** The paused kinds. */
export const kindsPaused = (access: Access): ReadonlyArray<Kind.Kind> =>
  access.values(pauses).map(({ namespace, schemaIdentity }) => ({ namespace, schemaIdentity }))

/** Notes that the worker is alive, and unparks chunks that it serves or that are no longer paused. */
export const beat = (access: Access, id: string, serves: ReadonlyArray<Kind.Kind>, now: number): Beat => {
  access.set(workers, id, { id, serves, startedAt: access.get(workers, id)?.startedAt ?? now, beatAt: now })
  const others = access.values(workers).filter((worker) => worker.id !== id)
  for (const worker of others) if (worker.beatAt < now - remembered) access.delete(workers, worker.id)
  const paused = kindsPaused(access)
  let unparked = 0
  for (const row of access.values(queue)) {
    const kind = Kind.of(row)
    if (row.state !== "parked" || paused.some((pause) => Kind.covers(pause, kind))) continue
    if (row.parkedFor !== "paused" && !serves.some((one) => Kind.serves(one, kind))) continue
    access.set(queue, seqKey(row.seq), { ...row, state: "ready", parkedFor: undefined })
    unparked++
  }
  const elsewhere = new Map<string, Kind.Kind>()
  for (const worker of others) {
    if (worker.beatAt <= now - alive) continue
    for (const kind of worker.serves) elsewhere.set(kindKey(kind), kind)
  }
  for (const kind of serves) elsewhere.delete(kindKey(kind))
  return { unparked, elsewhere: [...elsewhere.values()], paused }
}
