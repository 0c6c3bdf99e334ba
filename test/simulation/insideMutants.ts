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
  "chunks persisted inside are not in the ledger": { ...rules, isKept: false },
  "a refused row does not roll back the other rows of its statement": { ...rules, isAtomic: false },
  "the ledger names the rows of other answers for chunks persisted inside": {
    ...rules,
    named: (objects) => objects.toReversed()
  },
  "chunks with an ordering key are persisted inside": {
    ...rules,
    isPlain: (row) => rules.isPlain({ ...row, orderingKey: undefined })
  },
  "chunks of an older version are persisted inside": {
    ...rules,
    isEncoded: (row, fingerprint, kind) =>
      rules.isEncoded(row, fingerprint, kind) || (row.schemaVersion < kind.version && fingerprint !== 0)
  },
  "JSON that the schema has not encoded is persisted inside": {
    ...rules,
    isEncoded: (row, _, kind) => row.schemaVersion === kind.version
  },
  "a call of a paused kind is persisted by the statement that records it": { ...rules, mindsPauses: false },
  "chunks whose call lacks required context are persisted inside": { ...rules, isGiven: () => true }
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
  "a refused row deletes all chunks of its kind from the queue": whenRefused((access, row) =>
    access.delete(queue, seqKey(row.seq))
  ),
  "a refused row charges all chunks of its kind": whenRefused((access, row) =>
    access.set(queue, seqKey(row.seq), { ...row, attempts: row.attempts + 1 })
  )
}
