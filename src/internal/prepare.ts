/**
 * From claimed chunks to handlers ready to run: resolve, decode, and put them in rounds.
 */
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ClaimedChunk, DeathReason, Kind, Settlement } from "../ChunkStore.ts"
import { ContextMissing, type Handler, type HandlerCall, type HandlerInput } from "../Handler.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import { UnknownVersion } from "../Output.ts"
import { printKey } from "../ServiceCall.ts"

/** A chunk with its handler and its decoded output. */
export interface Prepared {
  readonly _tag: "Prepared"
  readonly chunk: ClaimedChunk
  readonly handler: Handler
  readonly input: HandlerInput<unknown>
}

/** What a handler is told of the call of its chunk. */
export const callOf = (chunk: ClaimedChunk): HandlerCall => {
  const missing = (key: string, reason: string) => new ContextMissing({ callId: chunk.key.callId, key, reason })
  const value = (key: string) => Object.hasOwn(chunk.call.context, key) ? chunk.call.context[key] : undefined
  const finishedAt: DateTime.Utc = chunk.call.finishedAt
  return {
    callId: chunk.key.callId,
    namespace: chunk.namespace,
    service: chunk.call.service,
    correlationId: chunk.call.correlationId,
    part: chunk.key.part,
    orderingKey: chunk.orderingKey,
    finishedAt,
    attempt: chunk.attempts + 1,
    idempotencyKey: printKey(chunk.key),
    key: chunk.key,
    input: chunk.call.input,
    context: (key) => {
      const found = value(key)
      return typeof found === "string"
        ? Effect.succeed(found)
        : Effect.fail(missing(key, found === undefined ? "is missing" : "is not a text"))
    },
    contextAs: (key, schema) =>
      Schema.decodeUnknownEffect(schema)(value(key)).pipe(
        Effect.mapError((error) => missing(key, `does not decode: ${error.message}`))
      )
  }
}

const bury = (chunk: ClaimedChunk, reason: DeathReason, message: string, handler = ""): Settlement => ({
  _tag: "Bury",
  chunk,
  reason,
  charge: false,
  failure: { handler, kind: reason, message }
})

const covers = (kind: Kind, chunk: ClaimedChunk): boolean =>
  (kind.namespace === "*" || kind.namespace === chunk.namespace) &&
  (kind.schemaIdentity === "*" || kind.schemaIdentity === chunk.key.schemaIdentity)

/** Finds a chunk's handler and decodes its output, or says how it ends instead: parked or buried. */
export const prepare = (
  registry: HandlerRegistry["Service"],
  paused: ReadonlyArray<Kind>,
  maxCrashes: number
) =>
  Effect.fnUntraced(function*(chunk: ClaimedChunk): Effect.fn.Return<Prepared | Settlement> {
    if (paused.some((kind) => covers(kind, chunk))) return { _tag: "Park", chunk, reason: "paused" }
    if (chunk.loneCrashes >= maxCrashes) {
      return bury(chunk, "crashing", `${chunk.loneCrashes} workers died while they held this chunk alone`)
    }
    const handler = yield* Effect.option(registry.resolve(chunk.namespace, chunk.key.schemaIdentity))
    if (handler._tag === "None") return { _tag: "Park", chunk, reason: "no-handler" }
    if (chunk.data === undefined) {
      return bury(chunk, "undecodable", "the recorded output is no longer there", handler.value.name)
    }
    return yield* handler.value.output.decode(chunk.data, chunk.schemaVersion).pipe(
      Effect.match({
        onFailure: (error) =>
          bury(
            chunk,
            error instanceof UnknownVersion ? "unknown-version" : "undecodable",
            error.message,
            handler.value.name
          ),
        onSuccess: (output): Prepared => ({
          _tag: "Prepared",
          chunk,
          handler: handler.value,
          input: { output, call: callOf(chunk) }
        })
      }),
      // an upcast or a schema written by the application may throw: that is a chunk that does not decode
      Effect.catchDefect((defect) =>
        Effect.succeed(bury(chunk, "undecodable", `decoding threw: ${String(defect)}`, handler.value.name))
      )
    )
  })

/**
 * The order of work: each round is one handler's share, as large as the ordering keys allow. A chunk of a key comes
 * after all older ones of its key, in the same round or an earlier one; a chunk that failed before gets a round alone.
 */
export const rounds = (prepared: ReadonlyArray<Prepared>): ReadonlyArray<ReadonlyArray<Prepared>> => {
  const plan: Array<ReadonlyArray<Prepared>> = []
  let rest = oldestFirst(prepared)
  while (rest.length > 0) {
    const [round, later] = nextRound(rest)
    plan.push(round)
    rest = later
  }
  return plan
}

/**
 * The claim's order, by rank, but of each key the oldest first: a retry is ranked by when it came due, behind chunks of
 * its key that were recorded after it.
 */
const oldestFirst = (prepared: ReadonlyArray<Prepared>): ReadonlyArray<Prepared> => {
  const byKey = Map.groupBy(prepared, (one) => one.chunk.orderingKey)
  for (const [key, chain] of byKey) if (key !== undefined) chain.sort((a, b) => a.chunk.seq < b.chunk.seq ? -1 : 1)
  const places = new Map([...byKey].map(([key, chain]) => [key, chain.values()]))
  return prepared.map((one) => places.get(one.chunk.orderingKey)?.next().value ?? one)
}

const nextRound = (rest: ReadonlyArray<Prepared>): readonly [ReadonlyArray<Prepared>, ReadonlyArray<Prepared>] => {
  const shares = new Map<Handler, Array<Prepared>>()
  // the handler a key's run belongs to; a run ends where another handler's chunk, or a repeater, begins
  const runs = new Map<string, Handler | "ended">()
  for (const one of rest) {
    const key = one.chunk.orderingKey
    const run = key === undefined ? undefined : runs.get(key)
    const repeater = one.chunk.attempts > 0
    if (repeater && run === undefined && key === undefined) continue
    if (repeater || (run !== undefined && run !== one.handler)) {
      if (key !== undefined) runs.set(key, "ended")
      continue
    }
    if (key !== undefined) runs.set(key, one.handler)
    const share = shares.get(one.handler)
    if (share === undefined) shares.set(one.handler, [one])
    else share.push(one)
  }
  let largest: ReadonlyArray<Prepared> = []
  for (const share of shares.values()) if (share.length > largest.length) largest = share
  // only repeaters are at the front: the oldest of them goes alone
  if (largest.length === 0) return [rest.slice(0, 1), rest.slice(1)]
  const taken = new Set(largest)
  return [largest, rest.filter((one) => !taken.has(one))]
}
