/**
 * Bugs, planted one at a time in the sources of drain and subscription: what is between a claim and the port. Each is a
 * place in a file and what stands there instead; a place that is no longer there is told, so that the table follows the
 * code.
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
  /** The world that has it. Default `programs`. */
  readonly world?: "mixed"
}

const inRun = (place: string, instead: string): Planted => ({ file: "drain/run.ts", place, instead })
const inAttempt = (place: string, instead: string): Planted => ({ file: "drain/attempt.ts", place, instead })
const inTransaction = (place: string, instead: string): Planted => ({ file: "drain/transaction.ts", place, instead })
const inSettling = (place: string, instead: string): Planted => ({ file: "drain/settling.ts", place, instead })
const inSplit = (place: string, instead: string): Planted => ({ file: "drain/split.ts", place, instead })
const inFailure = (place: string, instead: string): Planted => ({ file: "drain/failure.ts", place, instead })
const inTurn = (place: string, instead: string): Planted => ({ file: "drain/runInTurn.ts", place, instead })
const inBatch = (place: string, instead: string): Planted => ({ file: "drain/batch.ts", place, instead })
const inInside = (place: string, instead: string): Planted => ({
  file: "drain/inside.ts",
  place,
  instead,
  world: "mixed"
})
const inPrepare = (place: string, instead: string): Planted => ({ file: "drain/prepare.ts", place, instead })

/** The bugs, by what is wrong. */
export const planted: Readonly<Record<string, Planted>> = {
  "a failure charges all chunks of its batch": inSplit(
    "const charge = [...failedUnsent].map(([one, cause]) => chargeFor(one, cause))",
    "const charge = members.map((one) => chargeFor(one, [...failed.values(), ...failedUnsent.values()][0]!))\n" +
      "  if (charge.length > 0) return { ...nothing, charge }"
  ),
  "a failure charges the chunks before it in its batch as well": inSplit(
    "    charge,\n    next: [\n      ...batches(withoutAny(remaining, [...failing, ...notRun])),",
    "    charge: [...charge, ...withoutAny(remaining, [...failing, ...notRun])" +
      ".map((one) => chargeFor(one, [...failed.values()][0]!))],\n    next: ["
  ),
  "a failure charges the chunks after it in its batch as well": inSplit(
    "    charge,\n    next: [\n      ...batches(withoutAny(remaining, [...failing, ...notRun])),\n" +
      "      ...batches(withoutAny(notRun, behind)),",
    "    charge: [...charge, ...withoutAny(notRun, behind).map((one) => chargeFor(one, [...failed.values()][0]!))],\n" +
      "    next: [\n      ...batches(withoutAny(remaining, [...failing, ...notRun])),"
  ),
  "a chunk that failed in a batch is charged before it has failed alone": inSplit(
    "...batches(...failing.filter((one) => !maybeHarmed.has(one)).map((one) => [one])),\n" +
      "      ...(doubtful.length > 1 ? halves(doubtful, false) : batches(doubtful)),\n      ...batches(behind)\n    ]",
    "...(doubtful.length < 0 ? halves(doubtful, false) : batches(behind))\n    ],\n" +
      "    charge: [...charge, ...failing.map((one) => chargeFor(one, failed.get(one)!))]"
  ),
  "a chunk has one attempt more than allowed": inFailure(
    "const attempts = chunk.attempts + 1",
    "const attempts = chunk.attempts"
  ),
  "a permanent error is retried": inFailure(
    "if (isPermanent(one, cause)) return",
    "if (isPermanent(one, cause) && chunk.attempts > 0) return"
  ),
  "a batch is not retried after a transient error": inAttempt(
    "} else if (!isTransient(error)) {",
    "} else if (error !== undefined) {"
  ),
  "the first failure of the database charges the chunk": inSplit(
    "const mostBlame = { batch: 1, alone: 4, aloneInItsRun: 3 }",
    "const mostBlame = { batch: 0, alone: 0, aloneInItsRun: 0 }"
  ),
  "a failed chunk does not block its ordering key": inSettling(
    "if (orderingKey === undefined) return\n      const before",
    "if (orderingKey !== \"\") return\n      const before"
  ),
  "a chunk that is in the ledger is charged": inSettling(
    "withoutPersisted(charges.map((charge) => ({ ...charge, chunk: charge.one.chunk }))),",
    "Effect.succeed(charges.map((charge) => ({ ...charge, chunk: charge.one.chunk }))),"
  ),
  "a failed chunk is removed from the queue instead of retried": inFailure(
    "return Settlement.Retry({ ...base, delay: yield* RetryPolicy.delayAfter(schedule, attempts) })",
    "return Settlement.Already({ chunk, ...(schedule === undefined ? {} : {}) })"
  ),
  "created objects are announced twice": inTransaction(
    "return announce(() => events.publish(eventsOf(persisted)))",
    "return announce(() => events.publish(eventsOf([...persisted, ...persisted])))"
  ),
  "created objects are announced before the commit": inTransaction(
    "transaction.afterCommit(noteAndAnnounce(held, events, done.persisted))",
    "Effect.andThen(events.publish(eventsOf(done.persisted)), " +
      "transaction.afterCommit(noteAndAnnounce(held, events, done.persisted)))"
  ),
  "leases are not renewed while handlers run": {
    file: "drain/lease.ts",
    place: "Effect.andThen(requested.close, renew)",
    instead: "Effect.andThen(requested.close, renew === undefined ? Effect.void : Effect.void)"
  },
  "a worker that stops does not give back its chunks": {
    file: "drain/held.ts",
    place: "return rest.length === 0 ? Effect.void : releases.soon(claim.token, rest)",
    instead: "return rest.length >= 0 ? Effect.void : releases.soon(claim.token, rest)"
  },
  "a subscription counts an event as handled before its handler has run": {
    file: "Subscription.ts",
    place: "for (const event of eventsOf(entry)) if (filter(event)) yield* handler(event)\n      moved(index + 1)",
    instead: "moved(index + 1)\n      for (const event of eventsOf(entry)) if (filter(event)) yield* handler(event)"
  },
  "a failed run never rolls back its transaction": inTurn("if (sent) {", "if (sent && persisted.length < 0) {"),
  "a failed run does not roll back a transaction that it shares": inTurn(
    "if (sent) {",
    "if (sent && batch.length === 1) {"
  ),
  "later chunks of an ordering key run after a failure in their batch": inTurn(
    "if (orderingKey !== undefined) blocked.add(orderingKey)",
    ""
  ),
  "a handler that waits at a silent connection is charged with a timeout": inBatch(
    "return { _tag: \"Failed\", cause: Cause.fail(error), sent, isCutOff }",
    "return { _tag: \"Failed\", cause: Cause.fail(error), sent, isCutOff: true }"
  ),
  "chunks are charged while the database is unreachable": inAttempt(
    "const probed = yield* Effect.result(store.probe)",
    "hasBegun = true\n      const probed = yield* Effect.result(Effect.asVoid(Effect.result(store.probe)))"
  ),
  "the runs of a batch go concurrently": {
    file: "drain/transaction.ts",
    place: "isTogether ? runTogether : runInTurn",
    instead: "setting.rule !== \"alone\" ? runTogether : runInTurn"
  },
  "a run may change settings of a transaction that it shares": {
    file: "drain/isolation.ts",
    place: "return members === 1 ? \"alone\" : \"batch\"",
    instead: "return members >= 1 ? \"alone\" : \"batch\""
  },
  "a handler that cannot share transactions goes on sharing them": inRun(
    "if (isApart && members.length > 1)",
    "if (isApart && members.length < 0)"
  ),
  "chunks of a paused kind are persisted inside": inInside(
    "return pauses.length > 0 ? undefined : []",
    "return []"
  ),
  "objects of chunks persisted inside are not announced": inInside(
    "yield* store.afterCommit(announce(() => events.publish(eventsOf(handler.name, chunks))))",
    ""
  ),
  "objects of chunks persisted inside are announced twice": inInside(
    "yield* store.afterCommit(announce(() => events.publish(eventsOf(handler.name, chunks))))",
    "yield* store.afterCommit(announce(() => events.publish(eventsOf(handler.name, [...chunks, ...chunks]))))"
  ),
  "a chunk without a handler is buried": inPrepare(
    "return Settlement.Park({ chunk, reason: \"no-handler\" })",
    "return bury(chunk, \"undecodable\", \"no handler\")"
  ),
  "a chunk of a newer version is buried": inPrepare(
    "return Settlement.Park({ chunk, reason: \"newer-version\" })",
    "return bury(chunk, \"unknown-version\", \"too new\")"
  ),
  "a chunk that kills its workers is never buried": inPrepare(
    "if (chunk.loneCrashes >= maxCrashes)",
    "if (chunk.loneCrashes < 0)"
  ),
  "a chunk is buried after one crash": inPrepare("if (chunk.loneCrashes >= maxCrashes)", "if (chunk.crashes > 0)"),
  "an output that does not decode is parked": inPrepare(
    "return bury(chunk, reason, message, handler.name)",
    "return Settlement.Park({ chunk, reason: \"no-handler\" })"
  ),
  "chunks of an ordering key run in reverse order": inPrepare(
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
