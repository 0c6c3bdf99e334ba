/**
 * Pauses in memory: equal to `store/pg/pauses.ts`.
 */
import * as Effect from "effect/Effect"
import { type Pause, Pauses } from "../../Pauses.ts"
import { utc } from "./read.ts"
import { kindKey, pauses, type Use } from "./rows.ts"

const byKind = (a: Pause, b: Pause): number => (kindKey(a) < kindKey(b) ? -1 : 1)

/** The service in memory. `hint` notifies the workers after the commit. */
export const make = (use: Use, hint: Effect.Effect<void>): Pauses["Service"] =>
  Pauses.of({
    pause: ({ namespace, schemaIdentity }, reason) =>
      use((access, now) => {
        const kind = { namespace, schemaIdentity }
        const pausedAt = access.get(pauses, kindKey(kind))?.pausedAt ?? now
        access.set(pauses, kindKey(kind), { ...kind, reason, pausedAt })
      }).pipe(Effect.tap(hint)),
    resume: (kind) =>
      use((access) => {
        const found = access.get(pauses, kindKey(kind)) !== undefined
        access.delete(pauses, kindKey(kind))
        return found
      }).pipe(Effect.tap(hint)),
    list: use((access) =>
      access.values(pauses).map((row): Pause => ({ ...row, pausedAt: utc(row.pausedAt) })).sort(byKind)
    )
  })
