/**
 * A worker's sign of life and its upkeep, in memory: the same as `store/pg/beat.ts`.
 */
import type { Beat, Kind } from "../../ChunkStore.ts"
import { covers } from "../../Pauses.ts"
import type { Access } from "../MemoryDatabase.ts"
import { kindKey, pauses, queue, seqKey, workers } from "./rows.ts"

/** How long after its last beat a worker counts as alive, in milliseconds. */
export const alive = 30_000
const remembered = 300_000

/** Whether one of these kinds stands for a kind; one of `core` for all namespaces. */
export const serve = (serves: ReadonlyArray<Kind>, kind: Kind): boolean =>
  serves.some((one) =>
    one.schemaIdentity === kind.schemaIdentity && (one.namespace === kind.namespace || one.namespace === "core")
  )

/** The kinds that nobody may drain now. */
export const kindsPaused = (access: Access): ReadonlyArray<Kind> =>
  access.values(pauses).map(({ namespace, schemaIdentity }) => ({ namespace, schemaIdentity }))

/** Notes that the worker is alive, unparks what it serves and what is no longer paused. */
export const beat = (access: Access, id: string, serves: ReadonlyArray<Kind>, now: number): Beat => {
  access.set(workers, id, { id, serves, startedAt: access.get(workers, id)?.startedAt ?? now, beatAt: now })
  const others = access.values(workers).filter((worker) => worker.id !== id)
  for (const worker of others) if (worker.beatAt < now - remembered) access.delete(workers, worker.id)
  const paused = kindsPaused(access)
  let unparked = 0
  for (const row of access.values(queue)) {
    const kind = { namespace: row.namespace, schemaIdentity: row.key.schemaIdentity }
    if (row.state !== "parked" || paused.some((pause) => covers(pause, kind))) continue
    if (row.parkedFor !== "paused" && !serve(serves, kind)) continue
    access.set(queue, seqKey(row.seq), { ...row, state: "ready", parkedFor: undefined })
    unparked++
  }
  const elsewhere = new Map<string, Kind>()
  for (const worker of others) {
    if (worker.beatAt <= now - alive) continue
    for (const kind of worker.serves) elsewhere.set(kindKey(kind), kind)
  }
  for (const kind of serves) elsewhere.delete(kindKey(kind))
  return { unparked, elsewhere: [...elsewhere.values()], paused }
}
