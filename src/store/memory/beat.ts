/**
 * The verb `beat` in memory: it equals `store/pg/beat.ts`.
 */
import * as Duration from "effect/Duration"
import { aliveFor, type Beat, rememberedFor } from "../../ChunkStore.ts"
import * as Kind from "../../Kind.ts"
import type { Access } from "../MemoryDatabase.ts"
import { kindKey, pauses, queue, seqKey, type WorkerRow, workers } from "./rows.ts"

/** How long after its last beat a worker counts as alive, in milliseconds. */
export const alive = Duration.toMillis(aliveFor)
const remembered = Duration.toMillis(rememberedFor)

/** Whether a version of a kind is served: by the handler of the namespace, or that of core where it has none. */
const serve = (serves: ReadonlyArray<Kind.Served>, { namespace, schemaIdentity }: Kind.Kind, version: number) => {
  const of = (namespace: string) => serves.find((one) => Kind.equals(one, { namespace, schemaIdentity }))
  const found = of(namespace) ?? of(Kind.core)
  return found !== undefined && Kind.newestRead(found) >= version
}

/** The paused kinds. */
export const kindsPaused = (access: Access): ReadonlyArray<Kind.Kind> =>
  access.values(pauses).map(({ namespace, schemaIdentity }) => ({ namespace, schemaIdentity }))

/** Notes that the worker is alive, unparks what it serves and what is no longer paused. */
export const beat = (
  access: Access,
  { id, inside, serves }: Pick<WorkerRow, "id" | "inside" | "serves">,
  now: number
): Beat => {
  access.set(workers, id, { id, serves, inside, startedAt: access.get(workers, id)?.startedAt ?? now, beatAt: now })
  const others = access.values(workers).filter((worker) => worker.id !== id)
  for (const worker of others) if (worker.beatAt < now - remembered) access.delete(workers, worker.id)
  const paused = kindsPaused(access)
  let unparked = 0
  for (const row of access.values(queue)) {
    const kind = Kind.of(row)
    if (row.state !== "parked" || paused.some((pause) => Kind.covers(pause, kind))) continue
    if (row.parkedFor !== "paused" && !serve(serves, kind, row.schemaVersion)) continue
    access.set(queue, seqKey(row.seq), { ...row, state: "ready", parkedFor: undefined })
    unparked++
  }
  const mine = new Map(serves.map((kind) => [kindKey(kind), kind]))
  const elsewhere = new Map<string, Kind.Left>()
  for (const worker of others) {
    if (worker.beatAt <= now - alive) continue
    for (const served of worker.serves) {
      const kind = { namespace: served.namespace, schemaIdentity: served.schemaIdentity }
      const own = mine.get(kindKey(kind))
      if (own === undefined) elsewhere.set(kindKey(kind), kind)
      else if (Kind.newestRead(served) > Kind.newestRead(own)) {
        elsewhere.set(kindKey(kind), { ...kind, above: own.version })
      }
    }
  }
  return { unparked, elsewhere: [...elsewhere.values()], paused }
}
