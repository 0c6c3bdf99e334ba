/**
 * What the log is told of a claim: a line for each end that a person may want to know of, none for what went well.
 * Never the error's text, which may quote what was recorded: it stands with the chunk, for `DeadLetters` to show. Ids are
 * escaped: what the program's logger does with them is not known.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Settlement } from "../../ChunkStore.ts"
import { escape } from "../../internal/escape.ts"
import type { Outcomes } from "../Outcome.ts"

const annotations = ({ chunk, ...settlement }: Settlement) => ({
  "sluice.call_id": escape(chunk.key.callId),
  "sluice.namespace": chunk.namespace,
  "sluice.schema": chunk.key.schemaIdentity,
  ...(chunk.key.part === "" ? {} : { "sluice.part": escape(chunk.key.part) }),
  ...("failure" in settlement
    ? { "sluice.handler": settlement.failure.handler, "sluice.failure": settlement.failure.kind }
    : {})
})

/** What is parked is told of by kind: a backlog without a handler is one piece of news, not a thousand. */
const parkedBy = (settlements: ReadonlyArray<Settlement>) => {
  const kinds = new Map<string, { readonly settlement: Settlement; readonly reason: string; count: number }>()
  for (const settlement of settlements) {
    if (settlement._tag !== "Park") continue
    const { chunk: { key, namespace }, reason } = settlement
    const kind = `${namespace}/${key.schemaIdentity}/${reason}`
    const known = kinds.get(kind)
    if (known === undefined) kinds.set(kind, { settlement, reason, count: 1 })
    else known.count++
  }
  return kinds.values()
}

/** Tells of a claim. */
export const logClaim = Effect.fnUntraced(function*(outcomes: Outcomes) {
  const settlements: Array<Settlement> = []
  let lost = 0
  for (const outcome of outcomes.values()) {
    if (outcome._tag === "Lost") lost++
    else if (outcome._tag === "Settled") settlements.push(outcome.settlement)
  }
  for (const settlement of settlements) {
    if (settlement._tag === "Bury") {
      yield* Effect.logWarning("a chunk is dead").pipe(
        Effect.annotateLogs({ ...annotations(settlement), "sluice.reason": settlement.reason })
      )
    } else if (settlement._tag === "Retry") {
      yield* Effect.logInfo("a chunk failed and will be tried again").pipe(
        Effect.annotateLogs({
          ...annotations(settlement),
          "sluice.attempt": settlement.chunk.attempts + 1,
          "sluice.delay": Duration.format(Duration.millis(Math.round(Duration.toMillis(settlement.delay))))
        })
      )
    }
  }
  for (const { count, reason, settlement: { chunk } } of parkedBy(settlements)) {
    yield* Effect.logInfo("chunks are parked").pipe(
      Effect.annotateLogs({
        "sluice.namespace": chunk.namespace,
        "sluice.schema": chunk.key.schemaIdentity,
        "sluice.reason": reason,
        "sluice.chunks": count
      })
    )
  }
  if (lost > 0) {
    yield* Effect.logWarning("chunks are another worker's by now: the lease ran out").pipe(
      Effect.annotateLogs("sluice.chunks", lost)
    )
  }
})
