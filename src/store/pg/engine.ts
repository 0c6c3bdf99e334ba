/**
 * The state that the engine's verbs share.
 */
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import type { Insert } from "../../Declaration.ts"
import type * as Settings from "../../Settings.ts"
import type { Topic, WakeUp } from "../../WakeUp.ts"
import { afterCommit } from "./afterCommit.ts"
import { closeCalls } from "./callEnd.ts"
import { type Claiming, makeClaiming } from "./claim.ts"
import { type Compiling, makeCompiling } from "./compiling.ts"
import type { Contact } from "./contact.ts"
import * as inserting from "./insert.ts"
import { countingAside } from "./ledgerTotals.ts"
import type { Tables } from "./tables.ts"
import { type Gone, keysOf, wakeFollowers } from "./waiting.ts"

/** The database, and what a store keeps between two verbs. */
export interface Engine {
  readonly t: Tables
  readonly settings: Settings.Values
  readonly contact: Contact
  readonly claiming: Claiming
  readonly compiling: Compiling
  /** Carries out declarations, in the surrounding transaction. */
  readonly insert: Insert
  /** Sends a hint after the caller's commit, when a woken worker can see the change. */
  readonly hint: (topic: Topic) => Effect.Effect<void>
  /** Wakes the chunks that waited behind these. Runs in the transaction that removes these, if there is one. */
  readonly wake: (gone: Gone) => Effect.Effect<void, SqlError>
  /** Asks for the ledger's new lines to be counted, and does not wait for it. */
  readonly countLedger: Effect.Effect<unknown>
  /** Writes the end of those of these calls that have no chunk left, after the caller's commit. */
  readonly close: (callIds: ReadonlyArray<string>) => Effect.Effect<void>
}

/** The engine of one store. */
export const make = Effect.fnUntraced(function*(
  t: Tables,
  settings: Settings.Values,
  contact: Contact,
  wakeUp: WakeUp["Service"]
): Effect.fn.Return<Engine, never, Scope> {
  const claiming = makeClaiming(t, settings, contact)
  const hint = (topic: Topic) => afterCommit(t.sql, wakeUp.hint(topic))
  const wake = Effect.fnUntraced(function*(gone: Gone) {
    const keys = keysOf(gone)
    if (keys.length === 0) return
    const [row] = yield* wakeFollowers(t, keys, gone.length)
    if (row === undefined || row.woken === 0) return
    claiming.behindEnd()
    yield* hint("chunks")
  })
  const compiling = makeCompiling(t)
  const insert = inserting.make(t, compiling)
  const close = (callIds: ReadonlyArray<string>) => afterCommit(t.sql, closeCalls(t, callIds, wakeUp.hint("events")))
  const countLedger = yield* countingAside(t)
  return { t, settings, contact, claiming, compiling, insert, hint, wake, countLedger, close }
})
