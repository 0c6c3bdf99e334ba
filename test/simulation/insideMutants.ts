/**
 * Bugs of the verb `persistInside`, planted one at a time: rules of its statement that are changed for the worse, and what
 * it does to the queue when it fails.
 */
import * as Effect from "effect/Effect"
import { queue, type QueueRow, seqKey } from "../../src/store/memory/rows.ts"
import type { Access } from "../../src/store/MemoryDatabase.ts"
import { type Rules, rules } from "./inside.ts"
import type { Mutant } from "./simulate.ts"

/** The rules with one of them broken, by what is wrong. */
export const insideRules: Readonly<Record<string, Rules>> = {
  "rows made inside are not in the ledger": { ...rules, isKept: false },
  "a refusal inside leaves rows": { ...rules, isAtomic: false },
  "ids made inside go to other answers": { ...rules, named: (objects) => objects.toReversed() },
  "order is overtaken inside": {
    ...rules,
    isPlain: (row) => rules.isPlain({ ...row, orderingKey: undefined })
  },
  "an older version is persisted inside": {
    ...rules,
    isEncoded: (row, fingerprint, kind) =>
      rules.isEncoded(row, fingerprint, kind) || (row.schemaVersion < kind.version && fingerprint !== 0)
  },
  "JSON that was written by hand is persisted inside": {
    ...rules,
    isEncoded: (row, _, kind) => row.schemaVersion === kind.version
  },
  "what is paused is persisted while it is recorded": { ...rules, mindsPauses: false },
  "what its context lacks is left out inside": { ...rules, isGiven: () => true }
}

/** When the statement fails, does something to the chunks of its kind that wait. */
const whenRefused = (change: (access: Access, row: QueueRow) => void): Mutant => (store, db) => ({
  ...store,
  persistInside: (request) =>
    Effect.tapError(store.persistInside(request), () =>
      db.use((access) => {
        for (const row of access.values(queue)) {
          if (row.key.schemaIdentity === request.kind.schemaIdentity && rules.isPlain(row)) change(access, row)
        }
      }))
})

/** Bugs of the store, by what is wrong. */
export const insideMutants: Readonly<Record<string, Mutant>> = {
  "a refused row takes its mates along": whenRefused((access, row) => access.delete(queue, seqKey(row.seq))),
  "a refusal inside is charged to all": whenRefused((access, row) =>
    access.set(queue, seqKey(row.seq), { ...row, attempts: row.attempts + 1 })
  )
}
