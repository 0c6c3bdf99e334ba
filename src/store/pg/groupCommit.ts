/**
 * Group commit: calls that are recorded one by one at the same time share statements. The first is sent at once; what comes
 * while it is under way is sent together when it has ended. No call waits for a timer.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import type { ChunkStoreError, RecordOutcome } from "../../ChunkStore.ts"
import type { Restore } from "../../internal/restore.ts"
import { isOutage } from "./contact.ts"
import { type Given, lengthOf } from "./given.ts"

/** The most calls and bytes of JSON in one group. */
const mostCalls = 500
const mostBytes = 4 * 1024 * 1024

/** If at least this many calls wait, they are sent as two groups. */
const worthTwo = 16

/** How long a group waits for a lock before its calls are sent one by one. */
const lockTimeout = Duration.millis(100)

/** After this time under way, a statement no longer holds up the calls that came after it. */
const longest = Duration.millis(50)

/** Writes calls in one commit. `lockTimeout`: how long it waits for a lock, if not as long as a statement may take. */
export type Write = (
  calls: ReadonlyArray<Given>,
  lockTimeout?: Duration.Duration
) => Effect.Effect<ReadonlyArray<RecordOutcome>, ChunkStoreError>

/** A call that waits for the next group. */
interface Waiting {
  readonly given: Given
  /** Its caller's. */
  readonly context: Context.Context<never>
  /** `alone`: the group has failed for a reason that may be another call's, so this call is sent alone. */
  readonly verdict: Deferred.Deferred<RecordOutcome | "alone", ChunkStoreError>
  /** The group that it was sent with. */
  group: Group | undefined
}

/** Calls that were sent together. */
interface Group {
  readonly fiber: Fiber.Fiber<void>
  /** How many callers still wait for it. */
  callers: number
}

/** How many of those that wait are the next group. */
const countOf = (waiting: ReadonlyArray<Waiting>): number => {
  let bytes = 0
  const end = waiting.findIndex(({ given }, index) => {
    bytes += lengthOf(given)
    return index === mostCalls || (index > 0 && bytes > mostBytes)
  })
  return end === -1 ? waiting.length : end
}

/**
 * Whether an error is that of the whole group. A statement that the server has cancelled, for example by a
 * `statement_timeout`, may have taken so long because of one call, or because it was of many.
 */
const isOfAll = (error: ChunkStoreError): boolean => isOutage(error) && error.code !== "57014"

/** Sends a group and gives each member its outcome. */
const send = (write: Write, members: ReadonlyArray<Waiting>): Effect.Effect<void> =>
  Effect.matchCause(inGroupSpan(members, write(members.map(({ given }) => given), lockTimeout)), {
    onSuccess: (outcomes) => {
      for (const [index, { verdict }] of members.entries()) {
        Deferred.doneUnsafe(verdict, Exit.succeed(outcomes[index] ?? "conflict"))
      }
    },
    onFailure: (cause) => {
      const error = Option.getOrUndefined(Cause.findErrorOption(cause))
      const verdict = error !== undefined && isOfAll(error) ? Exit.fail(error) : Exit.succeed("alone" as const)
      for (const member of members) Deferred.doneUnsafe(member.verdict, verdict)
    }
  })

/**
 * Records one call, in a group with those that others record at the same time. Each gets its own outcome. A call that is
 * refused, or that waits for a lock, costs the others of its group a second try: each is then sent alone. So does one that
 * takes longer than the server's `statement_timeout`. An outage is the error of the whole group. For calls outside of a
 * transaction.
 *
 * An interrupted caller withdraws its call. If its group is under way already, it is unknown whether it was in time, as with
 * any interrupted statement; a group whose callers are all gone is interrupted.
 */
export const groupCommit = (write: Write) => {
  let waiting: Array<Waiting> = []
  /** The statements for which the calls that come meanwhile wait: two at most. One that takes long holds up no others. */
  const underWay = new Set<symbol>()
  let isWatched = false

  const alone = (given: Given) => Effect.map(write([given]), ([outcome]) => outcome ?? "conflict")

  /** Sends so many of those that wait, if they fit into a group. */
  const depart = (most: number): void => {
    const members = waiting.splice(0, Math.min(most, countOf(waiting)))
    const [first] = members
    if (first === undefined) return
    const flight = Symbol("flight")
    underWay.add(flight)
    // the callers that have their outcome may record again at once: then these calls are part of the next group
    const sent = Effect.ensuring(send(write, members), Effect.andThen(Effect.yieldNow, ended(flight)))
    const group: Group = { fiber: Effect.runForkWith(first.context)(sent), callers: members.length }
    for (const member of members) member.group = group
  }

  /** Sends what waits: many calls as two groups, so that the server writes one while this process prepares the other. */
  const next = (): void => {
    if (underWay.size === 0 && waiting.length >= worthTwo) depart(Math.ceil(waiting.length / 2))
    depart(mostCalls)
  }

  const ended = (flight: symbol) =>
    Effect.sync(() => {
      if (underWay.delete(flight)) next()
    })

  /** Sends what waits for statements that take long, for example because of a lock. Ends when nothing waits. */
  const watch = Effect.gen(function*() {
    while (waiting.length > 0) {
      const seen = [...underWay]
      yield* Effect.sleep(longest)
      if (waiting.length === 0 || seen.some((flight) => !underWay.has(flight))) continue
      underWay.clear()
      next()
    }
  }).pipe(Effect.ensuring(Effect.sync(() => {
    isWatched = false
  })))

  const withdraw = (one: Waiting) =>
    Effect.sync(() => {
      if (one.group === undefined) waiting = waiting.filter((other) => other !== one)
      else if (--one.group.callers === 0) one.group.fiber.interruptUnsafe()
    })

  /** Waits for the outcome of the group that a call will be part of. */
  const wait = (given: Given, context: Context.Context<never>, restore: Restore) => {
    const one: Waiting = { given, context, verdict: Deferred.makeUnsafe(), group: undefined }
    waiting.push(one)
    if (!isWatched) {
      isWatched = true
      Effect.runForkWith(context)(watch)
    }
    return Effect.onInterrupt(restore(Deferred.await(one.verdict)), () => withdraw(one))
  }

  return (given: Given): Effect.Effect<RecordOutcome, ChunkStoreError> =>
    Effect.uninterruptibleMask((restore) => {
      if (underWay.size === 0) {
        const flight = Symbol("flight")
        underWay.add(flight)
        return Effect.ensuring(restore(alone(given)), ended(flight))
      }
      return Effect.flatMap(
        Effect.flatMap(Effect.context<never>(), (context) => wait(given, context, restore)),
        (verdict) => verdict === "alone" ? restore(alone(given)) : Effect.succeed(verdict)
      )
    })
}

/** Runs a group's statement in a span of its own, with a link to the request of each call. */
const inGroupSpan = <A, E, R>(members: ReadonlyArray<Waiting>, sent: Effect.Effect<A, E, R>) =>
  Effect.withSpan(sent, "ChunkStore.record", {
    root: true,
    attributes: { "sluice.calls": members.length },
    links: members.flatMap(({ context, given }) => {
      const span = Context.getOrUndefined(context, Tracer.ParentSpan)
      return span === undefined ? [] : [{ span, attributes: { "sluice.call_id": given.call.callId } }]
    })
  })
