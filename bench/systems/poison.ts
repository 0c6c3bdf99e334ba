/**
 * Sluice with a handler that fails for some records. The payload says for which, and whether before or after its write.
 */
import { DomainObject } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Call } from "../work.ts"
import { Chatlab, messages, newMessage, toCall } from "./sluice.ts"
import type { Options, System } from "./system.ts"
import { watched } from "./watched.ts"

const before = "fails before its first write"
const after = "fails after its first write"

/** The first tag of a culprit: one of these. */
export const culpritTags: ReadonlyArray<string> = [before, after]

const handlers = Chatlab.toLayer(Effect.gen(function*() {
  const insert = yield* messages
  return Chatlab.of({
    "patient-reply": {
      // an hour later, so that each culprit is tried once while it is measured
      retry: Schedule.spaced("1 hour"),
      persist: ({ call, output }) => {
        const [deed] = output.metadata.tags
        if (deed === before) return Effect.fail(new Error(before))
        const written = insert(newMessage(call.callId, output))
        return deed === after
          ? Effect.andThen(written, Effect.fail(new Error(after)))
          : Effect.map(written, ({ id }) => DomainObject.make("bench.Message", id))
      }
    }
  })
}))

// a place among its records that looks random, and is the same in every run
const placeWithin = (nth: number, length: number) => Math.imul(nth + 1, 2654435761) % length

/** One of each 1 / `failing` records is a culprit, at some place among them: which of them record `n` is, if any. */
export const culpritAt = (n: number, failing: number): number | undefined => {
  if (failing === 0) return undefined
  const length = Math.round(1 / failing)
  const nth = Math.floor(n / length)
  return n % length === Math.abs(placeWithin(nth, length)) ? nth : undefined
}

/** Before and after in turns. */
const deedOf = (n: number, failing: number): string | undefined => {
  const nth = culpritAt(n, failing)
  return nth === undefined ? undefined : nth % 2 === 0 ? before : after
}

const poisoned = (call: Call, n: number, { failing = 0 }: Options) => {
  const deed = deedOf(n, failing)
  if (deed === undefined) return toCall(call)
  const { metadata } = call.payload
  return toCall({ ...call, payload: { ...call.payload, metadata: { ...metadata, tags: [deed] } } })
}

/** Handlers of which some fail. */
export const sluicePoison: System = {
  about: "as sluice-per-record, some handlers fail",
  open: watched({ handlers, toCall: poisoned })
}
