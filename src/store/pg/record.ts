/**
 * The verb `record`: groups calls into statements, in one commit. A call that the database refuses does not affect the
 * others.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import type { ChunkStore, ChunkStoreError, RecordOutcome } from "../../ChunkStore.ts"
import { compare } from "./compare.ts"
import type { Engine } from "./engine.ts"
import { type Given, given, lengthOf } from "./given.ts"
import { groupCommit, type Write } from "./groupCommit.ts"
import { longestOf } from "./longest.ts"
import { recordMany, recordOne, saysMore } from "./recordStatements.ts"
import { isRefusal, refused } from "./refusal.ts"

/** The most bytes and calls of one statement: the server's messages and Node's strings are limited. */
const mostBytes = 16 * 1024 * 1024
const mostCalls = 1000

const inPortions = (calls: ReadonlyArray<Given>): ReadonlyArray<ReadonlyArray<Given>> => {
  const portions: Array<Array<Given>> = []
  let bytes = 0
  for (const one of calls) {
    const length = lengthOf(one)
    const last = portions.at(-1)
    if (last === undefined || last.length === mostCalls || bytes + length > mostBytes) {
      portions.push([one])
      bytes = length
    } else {
      last.push(one)
      bytes += length
    }
  }
  return portions
}

const halves = <A>(list: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> => {
  const middle = Math.ceil(list.length / 2)
  return [list.slice(0, middle), list.slice(middle)]
}

type Outcomes = ReadonlyMap<string, RecordOutcome>

/** The verb. */
export const record = ({ hint, settings, t }: Engine): ChunkStore["Service"]["record"] => {
  const { client, sql } = t
  const recordSingle = recordOne(t)
  const recordSome = recordMany(t)
  const isNested = Effect.map(Effect.serviceOption(sql.transactionService), Option.isSome)

  const sameOrNot = (calls: ReadonlyArray<Given>) =>
    Effect.map(
      compare(t, calls, longestOf(sql, settings)),
      (rows): Outcomes => new Map(rows.map(({ callId, outcome }) => [callId, outcome]))
    )

  /** Records calls of different ids, all or none. */
  const recordDistinct = Effect.fnUntraced(function*(calls: ReadonlyArray<Given>, lockTimeout?: Duration.Duration) {
    const outcomes = new Map<string, RecordOutcome>()
    const [first] = calls
    if (first !== undefined && calls.length === 1 && first.call.outputs.length === 1 && !saysMore(first)) {
      for (const row of yield* recordSingle(first)) outcomes.set(row.call_id, "recorded")
    } else {
      const portions = inPortions(calls)
      const writing = Effect.forEach(portions, (portion) => recordSome(portion, { lockTimeout }))
      // a single statement is a commit of its own
      const written = yield* portions.length > 1 ? client.transaction(() => writing) : writing
      for (const row of written.flat()) outcomes.set(row.call_id, "recorded")
    }
    const rest = calls.filter(({ call }) => !outcomes.has(call.callId))
    for (const portion of inPortions(rest)) {
      for (const [callId, outcome] of yield* sameOrNot(portion)) outcomes.set(callId, outcome)
    }
    return outcomes
  })

  /**
   * Records calls of different ids, in one commit for all that the database does not refuse. It finds refused calls by
   * bisection, with savepoints: 2 log n statements for one of n calls, and never more than 2 n.
   */
  const recordApart = (
    calls: ReadonlyArray<Given>,
    lockTimeout?: Duration.Duration
  ): Effect.Effect<Outcomes, SqlError | ChunkStoreError> =>
    Effect.flatMap(isNested, (nested) =>
      Effect.catchIf(
        // without a savepoint, a failed statement makes the caller's transaction unusable
        nested ? client.transaction(() => recordDistinct(calls, lockTimeout)) : recordDistinct(calls, lockTimeout),
        isRefusal,
        (error): Effect.Effect<Outcomes, SqlError | ChunkStoreError> =>
          calls.length === 1
            ? Effect.succeed(new Map([[calls[0]!.call.callId, refused(error)]]))
            : client.transaction(() =>
              Effect.map(
                Effect.forEach(halves(calls), (half) => recordApart(half, lockTimeout)),
                (parts) => new Map(parts.flatMap((part) => [...part]))
              )
            )
      ))

  /**
   * Records one call. In a caller's transaction it uses no savepoint, which would cost two more round trips for each call: a
   * refusal there fails the transaction, like that of any other statement.
   */
  const recordAlone = Effect.fnUntraced(function*(call: Given) {
    return yield* (yield* client.isCallers) ? recordDistinct([call]) : recordApart([call])
  })

  const write: Write = Effect.fnUntraced(
    function*(calls: ReadonlyArray<Given>, lockTimeout?: Duration.Duration) {
      // one statement cannot insert the same row twice: of calls with the same id the first is recorded, and the others are
      // compared with it
      const first = new Map<string, Given>()
      for (const one of calls) if (!first.has(one.call.callId)) first.set(one.call.callId, one)
      const distinct = [...first.values()]
      const outcomes = distinct.length === 1
        ? yield* recordAlone(distinct[0]!)
        : yield* recordApart(distinct, lockTimeout)
      if ([...outcomes.values()].includes("recorded")) yield* hint("chunks")
      if (distinct.length === calls.length) return distinct.map(({ call }) => outcomes.get(call.callId) ?? "conflict")
      const later = new Set<string>()
      return yield* Effect.forEach(calls, (one) => {
        const { callId } = one.call
        const outcome = outcomes.get(callId) ?? "conflict"
        if (!later.has(callId)) {
          later.add(callId)
          return Effect.succeed(outcome)
        }
        const again = typeof outcome === "object" ? recordApart([one]) : sameOrNot([one])
        return Effect.map(again, (found) => found.get(callId) ?? "conflict")
      })
    },
    client.statement
  )
  const inGroup = groupCommit(write)

  return Effect.fnUntraced(function*(calls) {
    const [first] = calls
    if (first === undefined) return []
    // within a caller's transaction a call is that transaction's, and cannot be part of a group
    const isGrouped = settings.groupCommit && calls.length === 1 && !(yield* isNested)
    return isGrouped ? [yield* inGroup(given(first))] : yield* write(calls.map(given))
  })
}
