/**
 * The port for reading. Each query is one statement, in a file of its name.
 */
import * as Effect from "effect/Effect"
import { Inspector } from "../../Inspector.ts"
import type * as Settings from "../../Settings.ts"
import { call } from "./call.ts"
import { callsThatMade } from "./callsThatMade.ts"
import { due, isKnown, persistedLately } from "./counts.ts"
import { statements } from "./declared.ts"
import { oldestDue, queueGauges, subscriptionGauges } from "./gauges.ts"
import { invalid } from "./invalid.ts"
import { longestOf } from "./longest.ts"
import { later, nextDue } from "./nextDue.ts"
import { logStanding } from "./rebase.ts"
import { status } from "./status.ts"
import { stuck } from "./stuck.ts"
import type { Tables } from "./tables.ts"
import { usage } from "./usage.ts"
import { deadLetters, heldUp, parkedKinds, scheduled, staleLeases, unservedKinds } from "./vitals.ts"
import { stranded } from "./waiting.ts"
import { workers } from "./workers.ts"

/** The service on Postgres. */
export const make = (t: Tables, settings: Settings.Values): Inspector["Service"] => {
  const { statement } = t.client
  const { deadBlocksKey } = settings
  return Inspector.of({
    call: (callId) => statement(call(t, callId, deadBlocksKey, longestOf(t.sql, settings))),
    callsThatMade: (objects) => statement(callsThatMade(t, objects)),
    status: statement(status(t, false)),
    exactStatus: statement(status(t, true)),
    persistedLately: statement(persistedLately(t)),
    due: (namespace) => statement(due(t, namespace)),
    later: (namespace) => statement(later(t, namespace)),
    nextDue: statement(nextDue(t)),
    stuck: (request) => statement(stuck(t, request, deadBlocksKey)),
    workers: (ids) => statement(workers(t, ids)),
    isKnown: (kind) => statement(isKnown(t, kind)),
    declaration: (declaration) => statement(statements(t, declaration)),
    invalid: (request) => statement(invalid(t, request)),
    usage: (request) => statement(usage(t, request)),
    queueGauges: statement(queueGauges(t)),
    subscriptionGauges: statement(subscriptionGauges(t)),
    vitals: {
      oldestDue: statement(oldestDue(t)),
      scheduled: statement(scheduled(t)),
      staleLeases: statement(staleLeases(t)),
      parkedKinds: statement(parkedKinds(t)),
      unservedKinds: statement(unservedKinds(t)),
      deadLetters: statement(deadLetters(t)),
      heldUp: deadBlocksKey
        ? statement(heldUp(t))
        : Effect.succeed({ count: 0, callId: undefined }),
      stranded: (mostKeys) => statement(stranded(t, mostKeys, deadBlocksKey)),
      eventLog: statement(logStanding(t))
    }
  })
}
