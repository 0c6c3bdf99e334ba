/**
 * From claimed chunks to handlers ready to run: resolve, decode, and put them in rounds.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type { ClaimedChunk, DeathReason, Kind, Settlement } from "../ChunkStore.ts"
import { ContextMissing, type Handler, type HandlerCall, type HandlerInput } from "../Handler.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import { describe, longestReason } from "../internal/describe.ts"
import { shorten } from "../internal/quote.ts"
import { UnknownVersion } from "../Output.ts"
import { covers } from "../Pauses.ts"
import { type ChunkKey, printKey } from "../ServiceCall.ts"

/** A chunk with its handler, whose output decodes. */
export interface Prepared {
  readonly _tag: "Prepared"
  readonly chunk: ClaimedChunk
  readonly handler: Handler
  /** What the handler is run with: made anew for each run, so that a run that failed leaves nothing for the next. */
  readonly input: Effect.Effect<HandlerInput<unknown>>
}

const missing = (chunk: ClaimedChunk, key: string, reason: string) =>
  new ContextMissing({ callId: chunk.key.callId, key, reason })

/** What a handler is told of the call of its chunk. */
class Call implements HandlerCall {
  readonly callId: string
  readonly namespace: string
  readonly service: string
  readonly correlationId: string
  readonly part: string
  readonly orderingKey: string | undefined
  readonly attempt: number
  readonly key: ChunkKey
  readonly #chunk: ClaimedChunk
  #context: ClaimedChunk["call"]["context"] | undefined
  constructor(chunk: ClaimedChunk) {
    this.callId = chunk.key.callId
    this.namespace = chunk.namespace
    this.service = chunk.call.service
    this.correlationId = chunk.call.correlationId
    this.part = chunk.key.part
    this.orderingKey = chunk.orderingKey
    this.attempt = chunk.attempts + 1
    this.key = chunk.key
    this.#chunk = chunk
  }
  /** This run's own: what a handler does to a value, the next run must not see. */
  #contextOf(key: string): Schema.Json | undefined {
    const context = this.#context ??= this.#chunk.call.context
    return Object.hasOwn(context, key) ? context[key] : undefined
  }
  // few handlers ask for these; and no methods, because a handler may take them out of the call
  get context(): HandlerCall["context"] {
    const chunk = this.#chunk
    return (key) => {
      const found = this.#contextOf(key)
      return typeof found === "string"
        ? Effect.succeed(found)
        : Effect.fail(missing(chunk, key, found === undefined ? "is missing" : "is not a string"))
    }
  }
  get contextAs(): HandlerCall["contextAs"] {
    const chunk = this.#chunk
    return (key, schema) =>
      Schema.decodeUnknownEffect(schema)(this.#contextOf(key)).pipe(
        Effect.mapError((error) => missing(chunk, key, `does not decode: ${error.message}`))
      )
  }
  get finishedAt() {
    return this.#chunk.call.finishedAt
  }
  get idempotencyKey() {
    return printKey(this.key)
  }
  get input() {
    return this.#chunk.call.input
  }
}

/** What a handler is told of the call of its chunk. */
export const callOf = (chunk: ClaimedChunk): HandlerCall => new Call(chunk)

/**
 * Gives away what was decoded with the first run, and decodes once more for the runs that follow a failure. From its
 * handler's run to the commit of a batch nobody looks at it, and there are hundreds of it for the garbage collector to move.
 */
class GivenOnce implements Prepared {
  readonly _tag = "Prepared"
  readonly chunk: ClaimedChunk
  readonly handler: Handler
  #decoded: Exit.Success<unknown, unknown> | undefined
  constructor(chunk: ClaimedChunk, handler: Handler, decoded: Exit.Success<unknown, unknown>) {
    this.chunk = chunk
    this.handler = handler
    this.#decoded = decoded
    // errors that hold chunks are compared, and by content that would go through payloads of any depth
    Equal.byReferenceUnsafe(this)
  }
  get input(): Effect.Effect<HandlerInput<unknown>> {
    const first = this.#decoded
    this.#decoded = undefined
    const toInput = (output: unknown) => ({ output, call: callOf(this.chunk) })
    if (first !== undefined) return Effect.succeed(toInput(first.value))
    // it did decode before
    return Effect.orDie(
      Effect.map(
        Effect.suspend(() => decode(this.handler, this.chunk.data ?? null, this.chunk.schemaVersion)),
        toInput
      )
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

const kindOf = ({ key: { schemaIdentity }, namespace }: ClaimedChunk): Kind => ({ namespace, schemaIdentity })

/**
 * Finds a chunk's handler and decodes its output, or says how it ends instead: parked or buried. Nearly all schemas
 * decode at once; then this does too, and costs no step of a fiber.
 */
export const prepare = (
  registry: HandlerRegistry["Service"],
  paused: ReadonlyArray<Kind>,
  maxCrashes: number
) =>
(chunk: ClaimedChunk): Prepared | Settlement | Effect.Effect<Prepared | Settlement> => {
  if (paused.some((pause) => covers(pause, kindOf(chunk)))) return { _tag: "Park", chunk, reason: "paused" }
  if (chunk.loneCrashes >= maxCrashes) {
    const message = `${chunk.loneCrashes} workers died while they held this chunk alone`
    return bury(chunk, "crashing", message)
  }
  const handler = registry.find(chunk.namespace, chunk.key.schemaIdentity)
  if (handler === undefined) return { _tag: "Park", chunk, reason: "no-handler" }
  // before it is decoded: its text may be of any shape
  if (chunk.schemaVersion > handler.output.version) return { _tag: "Park", chunk, reason: "newer-version" }
  const { data } = chunk
  if (data === undefined) {
    return bury(chunk, "undecodable", chunk.withheld, handler.name)
  }
  const decoded = decode(handler, data, chunk.schemaVersion)
  return isExit(decoded)
    ? toPrepared(chunk, handler, decoded)
    : Effect.map(Effect.exit(decoded), (exit) => toPrepared(chunk, handler, exit))
}

// an effect that has ended already is an `Exit` of its own types
const isExit = <A, E>(effect: Effect.Effect<A, E>): effect is Effect.Effect<A, E> & Exit.Exit<A, E> =>
  Exit.isExit(effect)

const decode = (handler: Handler, data: Schema.Json, version: number) => {
  try {
    return handler.output.decode(data, version)
  } catch (defect) {
    return Exit.die(defect)
  }
}

const toPrepared = (
  chunk: ClaimedChunk,
  handler: Handler,
  decoded: Exit.Exit<unknown, UnknownVersion | Schema.SchemaError>
): Prepared | Settlement => {
  if (Exit.isSuccess(decoded)) return new GivenOnce(chunk, handler, decoded)
  const error = Cause.squash(decoded.cause)
  if (error instanceof UnknownVersion) return bury(chunk, "unknown-version", error.message, handler.name)
  // an upcast or a schema written by the application may throw: that is a chunk that does not decode
  const message = Schema.isSchemaError(error)
    ? shorten(error.message, longestReason)
    : `decoding threw: ${describe(error)}`
  return bury(chunk, "undecodable", message, handler.name)
}

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
  if (prepared.every((one) => one.chunk.orderingKey === undefined)) return prepared
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
  if (largest.length === rest.length) return [largest, []]
  const taken = new Set(largest)
  return [largest, rest.filter((one) => !taken.has(one))]
}
