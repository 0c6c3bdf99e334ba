/**
 * Sluice with a table that refuses some rows: by a handler for the batch, and by a declared one.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Call } from "../work.ts"
import { culpritAt } from "./poison.ts"
import { declared, encoded, persistMany } from "./sluice.ts"
import type { Options, System } from "./system.ts"
import { watched } from "./watched.ts"

/** What the table refuses. */
export const refusal = "alter table bench.message add constraint refused check (content <> 'refused')"

// an hour later, so that each culprit is tried once while it is measured
const retry = Schedule.spaced("1 hour")

const toCall = (call: Call, n: number, { failing = 0 }: Options) => {
  const isCulprit = culpritAt(n, failing) !== undefined
  return Effect.runSync(encoded(isCulprit ? { ...call, payload: { ...call.payload, content: "refused" } } : call))
}

/** A handler for the batch. */
export const sluiceRefusedMany: System = {
  about: "as sluice-persist-many, the table refuses some rows",
  open: watched({ handlers: persistMany({ retry }), toCall })
}

/** A declared handler. */
export const sluiceRefusedDeclared: System = {
  about: "as sluice-declared, the table refuses some rows",
  open: watched({ handlers: declared({ retry }), toCall })
}
