/**
 * A worker's sign of life and its upkeep, in memory: the same as `store/pg/beat.ts`.
 */
import type { Beat, Kind, Left, Served } from "../../ChunkStore.ts"
import { covers } from "../../Pauses.ts"
import type { Access } from "../MemoryDatabase.ts"
import { kindKey, pauses, queue, seqKey, workers } from "./rows.ts"

const alive = 30_000
const remembered = 300_000

const reads = (version: number | undefined): number => version ?? Number.POSITIVE_INFINITY

/** Whether a version of a kind is served: by the handler of the namespace, or that of core where it has none. */
const serve = (serves: ReadonlyArray<Served>, kind: Kind, version: number): boolean => {
  const by = (namespace: string) =>
    serves.find((one) => one.schemaIdentity === kind.schemaIdentity && one.namespace === namespace)
  const found = by(kind.namespace) ?? by("core")
  return found !== undefined && reads(found.version) >= version
}

/** The kinds that nobody may drain now. */
export const kindsPaused = (access: Access): ReadonlyArray<Kind> =>
  access.values(pauses).map(({ namespace, schemaIdentity }) => ({ namespace, schemaIdentity }))

/** Notes that the worker is alive, unparks what it serves and what is no longer paused. */
export const beat = (access: Access, id: string, serves: ReadonlyArray<Served>, now: number): Beat => {
  access.set(workers, id, { id, serves, startedAt: access.get(workers, id)?.startedAt ?? now, beatAt: now })
  const others = access.values(workers).filter((worker) => worker.id !== id)
  for (const worker of others) if (worker.beatAt < now - remembered) access.delete(workers, worker.id)
  const paused = kindsPaused(access)
  let unparked = 0
  for (const row of access.values(queue)) {
    const kind = { namespace: row.namespace, schemaIdentity: row.key.schemaIdentity }
    if (row.state !== "parked" || paused.some((pause) => covers(pause, kind))) continue
    if (row.parkedFor !== "paused" && !serve(serves, kind, row.schemaVersion)) continue
    access.set(queue, seqKey(row.seq), { ...row, state: "ready", parkedFor: undefined })
    unparked++
  }
  const mine = new Map(serves.map((kind) => [kindKey(kind), kind]))
  const elsewhere = new Map<string, Left>()
  for (const worker of others) {
    if (worker.beatAt <= now - alive) continue
    for (const { namespace, schemaIdentity, version } of worker.serves) {
      const kind = { namespace, schemaIdentity }
      const own = mine.get(kindKey(kind))
      if (own === undefined) elsewhere.set(kindKey(kind), kind)
      else if (reads(version) > reads(own.version)) elsewhere.set(kindKey(kind), { ...kind, above: own.version })
    }
  }
  return { unparked, elsewhere: [...elsewhere.values()], paused }
}
