/**
 * Bugs, planted one at a time in the sources of drain and subscription: what is between a claim and the port. Each is a place in
 * a file and what stands there instead; a place that is no longer there is told, so that the table follows the code.
 */
import { readFileSync } from "node:fs"
import { registerHooks } from "node:module"
import path from "node:path"
import { pathToFileURL } from "node:url"

/** A bug: where, and what is written there instead. */
export interface Planted {
  readonly file: string
  readonly place: string
  readonly instead: string
}

const inBatch = (place: string, instead: string): Planted => ({ file: "internal/batch.ts", place, instead })
const inExecute = (place: string, instead: string): Planted => ({ file: "internal/execute.ts", place, instead })
const inPrepare = (place: string, instead: string): Planted => ({ file: "internal/prepare.ts", place, instead })

/** The bugs, by what is wrong. */
export const planted: Readonly<Record<string, Planted>> = {
  "all of a batch are charged for one": inExecute(
    "for (const [one, cause] of left) yield* chargeOne(one, cause)\n    const remaining",
    "for (const one of batch) yield* chargeOne(one, failed.get(one) ?? left.get(one) ?? [...failed.values()][0]!)\n" +
      "    if (batch.length > 0) return\n    const remaining"
  ),
  "who stands beside a failure is given up with it": inExecute(
    "yield* runBatch(remaining.filter((one) => !failed.has(one) && !behind.has(one)))",
    "yield* settle(remaining.filter((one) => !failed.has(one)).map((one) => " +
      "({ _tag: \"Already\", chunk: one.chunk })))"
  ),
  "all that are under suspicion are charged": inExecute(
    "yield* Effect.forEach(parts, (part) => runBatch(part), { discard: true })",
    "for (const one of suspects) yield* chargeOne(one, failed.get(one)!)"
  ),
  "an attempt is one too many": inExecute(
    "const attempts = one.chunk.attempts + 1",
    "const attempts = one.chunk.attempts"
  ),
  "what cannot be helped is tried again": inExecute(
    "if (permanent) return",
    "if (permanent && one.chunk.attempts > 0) return"
  ),
  "an error that passes is charged at once": inExecute(
    "while: (error) => isPassing(error) &&",
    "while: (error) => false && isPassing(error) &&"
  ),
  "nothing is held up by a failure before it": inExecute(
    "if (orderingKey === undefined) return\n    const before",
    "if (orderingKey !== \"\") return\n    const before"
  ),
  "who is in the ledger is charged": inExecute(
    "const rest = yield* settleAlready(charges)",
    "const rest = charges"
  ),
  "a failure is swallowed": inExecute(
    "return { _tag: \"Retry\", ...base, delay: yield* RetryPolicy.delayAfter(schedule, attempts) }",
    "return { _tag: \"Already\", chunk: one.chunk, ...(schedule === undefined ? {} : {}) }"
  ),
  "what was created is announced twice": inExecute(
    "yield* persisted(done)\n",
    "yield* persisted(done)\n            yield* persisted(done)\n"
  ),
  "the lease of what runs is not renewed": inExecute(
    "Effect.matchEffect(store.renew(token, held(), lease), {",
    "Effect.matchEffect(Effect.as(Effect.void, token === \"\" ? held() : lease), {"
  ),
  "what a stopped worker holds is not given back": {
    file: "Drain.ts",
    place: "rest.length === 0 ? Effect.void : givingBack(release)",
    instead: "rest.length >= 0 ? Effect.void : givingBack(release)"
  },
  "a subscriber moves on before its handler has run": {
    file: "Subscription.ts",
    place: "for (const event of entry.events) if (filter(event)) yield* handler(event)\n      moved(index + 1)",
    instead: "moved(index + 1)\n      for (const event of entry.events) if (filter(event)) yield* handler(event)"
  },
  "a batch commits with its culprit": inBatch(
    "if (failed.size > 0) return yield* new BatchFailed",
    "if (failed.size > batch.length) return yield* new BatchFailed"
  ),
  "a handler that wrote and failed leaves its rows": inBatch(
    "if (found === \"untouched\" && batch.length > 1) left.set",
    "if (batch.length > 1) left.set"
  ),
  "a key goes on behind a failure": inBatch(
    "if (yield* runOne(one)) continue",
    "if ((yield* runOne(one)) || index >= 0) continue"
  ),
  "no handler is a reason to bury": inPrepare(
    "return { _tag: \"Park\", chunk, reason: \"no-handler\" }",
    "return bury(chunk, \"undecodable\", \"no handler\")"
  ),
  "one that kills its workers is run for ever": inPrepare(
    "if (chunk.loneCrashes >= maxCrashes)",
    "if (chunk.loneCrashes < 0)"
  ),
  "one crash is enough": inPrepare("if (chunk.loneCrashes >= maxCrashes)", "if (chunk.crashes > 0)"),
  "what does not decode is parked": inPrepare(
    "return bury(chunk, \"undecodable\", message, handler.name)",
    "return { _tag: \"Park\", chunk, reason: \"no-handler\" }"
  ),
  "the oldest of a key is not the first": inPrepare(
    "chain.sort((a, b) => a.chunk.seq < b.chunk.seq ? -1 : 1)",
    "chain.sort((a, b) => a.chunk.seq < b.chunk.seq ? 1 : -1)"
  )
}

/** Plants a bug: for modules that are loaded from here on. */
export const plant = ({ file, instead, place }: Planted): void => {
  const where = path.resolve(import.meta.dirname, "../../src", file)
  if (readFileSync(where, "utf8").split(place).length < 2) {
    throw new Error(`${file} has changed: there is no longer ${JSON.stringify(place)}`)
  }
  const url = pathToFileURL(where).href
  registerHooks({
    load: (loaded, context, next) => {
      const found = next(loaded, context)
      if (loaded !== url) return found
      return { ...found, source: String(found.source).replace(place, () => instead) }
    }
  })
}
