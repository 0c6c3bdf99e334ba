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
  "all of a batch are charged for one": inSplit(
    "const charge = [...failedUnsent].map(([one, cause]) => chargeFor(one, cause))",
    "const charge = members.map((one) => chargeFor(one, [...failed.values(), ...failedUnsent.values()][0]!))\n" +
      "  if (charge.length > 0) return { ...nothing, charge }"
  ),
  "who comes before a failure is charged with it": inSplit(
    "    charge,\n    next: [\n      ...batches(withoutAny(remaining, [...failing, ...notRun])),",
    "    charge: [...charge, ...withoutAny(remaining, [...failing, ...notRun])" +
      ".map((one) => chargeFor(one, [...failed.values()][0]!))],\n    next: ["
  ),
  "who comes after a failure is charged with it": inSplit(
    "    charge,\n    next: [\n      ...batches(withoutAny(remaining, [...failing, ...notRun])),\n" +
      "      ...batches(withoutAny(notRun, behind)),",
    "    charge: [...charge, ...withoutAny(notRun, behind).map((one) => chargeFor(one, [...failed.values()][0]!))],\n" +
      "    next: [\n      ...batches(withoutAny(remaining, [...failing, ...notRun])),"
  ),
  "all that are under suspicion are charged": inSplit(
    "...batches(...failing.filter((one) => !maybeHarmed.has(one)).map((one) => [one])),\n" +
      "      ...(doubtful.length > 1 ? halves(doubtful, false) : batches(doubtful)),\n      ...batches(behind)\n    ]",
    "...(doubtful.length < 0 ? halves(doubtful, false) : batches(behind))\n    ],\n" +
      "    charge: [...charge, ...failing.map((one) => chargeFor(one, failed.get(one)!))]"
  ),
  "an attempt is one too many": inFailure(
    "const attempts = chunk.attempts + 1",
    "const attempts = chunk.attempts"
  ),
  "what cannot be helped is tried again": inFailure(
    "if (isPermanent(one, cause)) return",
    "if (isPermanent(one, cause) && chunk.attempts > 0) return"
  ),
  "an error that passes is charged at once": inAttempt(
    "} else if (!isTransient(error)) {",
    "} else if (error !== undefined) {"
  ),
  "the database's failures are the chunk's": inSplit(
    "const mostBlame = { batch: 1, alone: 4, aloneInItsRun: 3 }",
    "const mostBlame = { batch: 0, alone: 0, aloneInItsRun: 0 }"
  ),
  "nothing is held up by a failure before it": inSettling(
    "if (orderingKey === undefined) return\n      const before",
    "if (orderingKey !== \"\") return\n      const before"
  ),
  "who is in the ledger is charged": inSettling(
    "const rest = yield* withoutPersisted(charges.map((charge) => ({ ...charge, chunk: charge.one.chunk })))",
    "const rest = charges.map((charge) => ({ ...charge, chunk: charge.one.chunk }))"
  ),
  "a failure is swallowed": inFailure(
    "return Settlement.Retry({ ...base, delay: yield* RetryPolicy.delayAfter(schedule, attempts) })",
    "return Settlement.Already({ chunk, ...(schedule === undefined ? {} : {}) })"
  ),
  "what was created is announced twice": inTransaction(
    "return events.publish(eventsOf(persisted))",
    "return Effect.andThen(events.publish(eventsOf(persisted)), events.publish(eventsOf(persisted)))"
  ),
  "what is announced does not wait for the commit": inTransaction(
    "transaction.afterCommit(announce(held, events, done.persisted))",
    "Effect.andThen(events.publish(eventsOf(done.persisted)), " +
      "transaction.afterCommit(announce(held, events, done.persisted)))"
  ),
  "the lease of what runs is not renewed": {
    file: "drain/lease.ts",
    place: "Effect.andThen(requested.close),\n        Effect.andThen(renew)",
    instead: "Effect.andThen(requested.close),\n        Effect.andThen(renew === undefined ? Effect.void : Effect.void)"
  },
  "what a stopped worker holds is not given back": {
    file: "drain/held.ts",
    place: "return rest.length === 0 ? Effect.void : releases.soon(claim.token, rest)",
    instead: "return rest.length >= 0 ? Effect.void : releases.soon(claim.token, rest)"
  },
  "a subscriber moves on before its handler has run": {
    file: "Subscription.ts",
    place: "for (const event of eventsOf(entry)) if (filter(event)) yield* handler(event)\n      moved(index + 1)",
    instead: "moved(index + 1)\n      for (const event of eventsOf(entry)) if (filter(event)) yield* handler(event)"
  },
  "a batch commits with its culprit": inTurn("if (sent) {", "if (sent && persisted.length < 0) {"),
  "a handler that wrote and failed leaves its rows": inTurn("if (sent) {", "if (sent && batch.length === 1) {"),
  "a key goes on behind a failure": inTurn("if (orderingKey !== undefined) blocked.add(orderingKey)", ""),
  "a connection that falls silent is the handler's fault": inBatch(
    "return { _tag: \"Failed\", cause: Cause.fail(error), sent, isCutOff }",
    "return { _tag: \"Failed\", cause: Cause.fail(error), sent, isCutOff: true }"
  ),
  "a database that is there for nobody is the chunk's fault": inAttempt(
    "const probed = yield* Effect.result(store.probe)",
    "const probed = yield* Effect.result(Effect.asVoid(Effect.result(store.probe)))"
  ),
  "the runs of a batch go all at once": {
    file: "drain/transaction.ts",
    place: "isTogether ? runTogether : runInTurn",
    instead: "setting.rule !== \"alone\" ? runTogether : runInTurn"
  },
  "a run may change what its mates see": {
    file: "drain/isolation.ts",
    place: "return members === 1 ? \"alone\" : \"batch\"",
    instead: "return members >= 1 ? \"alone\" : \"batch\""
  },
  "who cannot share a transaction goes on sharing": inRun(
    "if (isApart && members.length > 1)",
    "if (isApart && members.length < 0)"
  ),
  "a paused kind is persisted inside": inInside(
    "return pauses.length > 0 ? undefined : []",
    "return []"
  ),
  "what is persisted inside is not announced": inInside(
    "yield* store.afterCommit(events.publish(eventsOf(handler.name, chunks)))",
    ""
  ),
  "what is persisted inside is announced twice": inInside(
    "yield* store.afterCommit(events.publish(eventsOf(handler.name, chunks)))",
    "yield* store.afterCommit(events.publish(eventsOf(handler.name, [...chunks, ...chunks])))"
  ),
  "no handler is a reason to bury": inPrepare(
    "return Settlement.Park({ chunk, reason: \"no-handler\" })",
    "return bury(chunk, \"undecodable\", \"no handler\")"
  ),
  "a newer version is a reason to bury": inPrepare(
    "return Settlement.Park({ chunk, reason: \"newer-version\" })",
    "return bury(chunk, \"unknown-version\", \"too new\")"
  ),
  "one that kills its workers is run for ever": inPrepare(
    "if (chunk.loneCrashes >= maxCrashes)",
    "if (chunk.loneCrashes < 0)"
  ),
  "one crash is enough": inPrepare("if (chunk.loneCrashes >= maxCrashes)", "if (chunk.crashes > 0)"),
  "what does not decode is parked": inPrepare(
    "return bury(chunk, reason, message, handler.name)",
    "return Settlement.Park({ chunk, reason: \"no-handler\" })"
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
