/**
 * The port for reading: each question is one statement, in a file by its name.
 */
import * as Effect from "effect/Effect"
import { Inspector } from "../../Inspector.ts"
import type { Settings } from "../../Settings.ts"
import { call } from "./call.ts"
import { callsThatMade } from "./callsThatMade.ts"
import { due, isKnown, persistedLately } from "./counts.ts"
import { oldestDue, queueGauges, subscriptionGauges } from "./gauges.ts"
import { longestOf } from "./longest.ts"
import { nextDue } from "./nextDue.ts"
import { logStanding } from "./rebase.ts"
import { status } from "./status.ts"
import { stuck } from "./stuck.ts"
import type { Tables } from "./tables.ts"
import { deadLetters, heldUp, parkedKinds, retrying, staleLeases, unservedKinds } from "./vitals.ts"
import { stranded } from "./waiting.ts"
import { workers } from "./workers.ts"

/** The service on Postgres. */
export const make = (t: Tables, settings: Settings): Inspector["Service"] => {
  const { statement } = t.client
  const { deadBlocksKey } = settings
  return Inspector.of({
    call: (callId) => statement("inspector.call")(call(t, callId, deadBlocksKey, longestOf(settings))),
    callsThatMade: (objects) => statement("inspector.callsThatMade")(callsThatMade(t, objects)),
    status: statement("inspector.status")(status(t)),
    persistedLately: statement("inspector.persistedLately")(persistedLately(t)),
    due: (namespace) => statement("inspector.due")(due(t, namespace)),
    nextDue: statement("inspector.nextDue")(nextDue(t)),
    stuck: (request) => statement("inspector.stuck")(stuck(t, request, deadBlocksKey)),
    workers: (ids) => statement("inspector.workers")(workers(t, ids)),
    isKnown: (kind) => statement("inspector.isKnown")(isKnown(t, kind)),
    queueGauges: statement("inspector.queueGauges")(queueGauges(t)),
    subscriptionGauges: statement("inspector.subscriptionGauges")(subscriptionGauges(t)),
    vitals: {
      oldestDue: statement("inspector.oldestDue")(oldestDue(t)),
      retrying: statement("inspector.retrying")(retrying(t)),
      staleLeases: statement("inspector.staleLeases")(staleLeases(t)),
      parkedKinds: statement("inspector.parkedKinds")(parkedKinds(t)),
      unservedKinds: statement("inspector.unservedKinds")(unservedKinds(t)),
      deadLetters: statement("inspector.deadLetters")(deadLetters(t)),
      heldUp: deadBlocksKey
        ? statement("inspector.heldUp")(heldUp(t))
        : Effect.succeed({ count: 0, callId: undefined }),
      stranded: (mostKeys) => statement("inspector.stranded")(stranded(t, mostKeys, deadBlocksKey)),
      eventLog: statement("inspector.eventLog")(logStanding(t))
    }
  })
}
