/**
 * The first steps of a claim: `prepare` finds the handler of each chunk and decodes its output, and `rounds` decides
 * the order in which the handlers run.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Hash from "effect/Hash"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type ClaimedChunk, type DeathReason, Settlement } from "../ChunkStore.ts"
import { ContextMissing, type Handler, type HandlerCall, type HandlerInput } from "../Handler.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import { describe, longestReason } from "../internal/describe.ts"
import { shorten } from "../internal/quote.ts"
import { soon } from "../internal/soon.ts"
import * as Kind from "../Kind.ts"
import { UnknownVersion } from "../Output.ts"
import { type ChunkKey, printKey } from "../ServiceCall.ts"
import { orderingKeyOf } from "./orderingKey.ts"

/** A chunk with its handler; its output decodes. */
export interface Prepared {
  readonly _tag: "Prepared"
  readonly chunk: ClaimedChunk
  readonly handler: Handler
  /** The handler's input. Made anew for each run, so a run does not see changes by an earlier one. */
  readonly input: Effect.Effect<HandlerInput<unknown>, Undecodable>
}

/**
 * An output took too long to decode in `prepare`, and the run of its handler found that it does not. The chunk is buried.
 */
export class Undecodable extends Data.TaggedError("Undecodable")<{
  readonly chunk: ClaimedChunk
  readonly reason: DeathReason
  readonly message: string
}> {}

const missing = (chunk: ClaimedChunk, key: string, reason: string) =>
  new ContextMissing({ callId: chunk.key.callId, key, reason })

/** The call of a chunk, as its handler gets it. */
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
  /** A copy for this run: the next run must not see the changes that a handler makes to it. */
  #contextOf(key: string): Schema.Json | undefined {
    const context = this.#context ??= this.#chunk.call.context
    return Object.hasOwn(context, key) ? context[key] : undefined
  }
  // getters, because few handlers use these; not methods, because a handler may destructure the call
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
  get facts() {
    return this.#chunk.call.facts
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

/** The call of a chunk, as its handler gets it. */
export const callOf = (chunk: ClaimedChunk): HandlerCall => new Call(chunk)

/**
 * Returns the decoded output to the first run and then drops it; decodes again for the runs that follow a failure.
 * Otherwise hundreds of outputs would stay in memory until the batch commits, without being read again.
 */
class GivenOnce implements Prepared, Equal.Equal {
  readonly _tag = "Prepared"
  readonly chunk: ClaimedChunk
  readonly handler: Handler
  #decoded: Exit.Success<unknown, unknown> | undefined
  constructor(chunk: ClaimedChunk, handler: Handler, decoded: Exit.Success<unknown, unknown> | undefined) {
    this.chunk = chunk
    this.handler = handler
    this.#decoded = decoded
  }
  // Errors that hold chunks are compared: a comparison by content would walk payloads of any depth. Methods, because
  // `Equal.byReferenceUnsafe` puts each chunk into a weak set, which costs more than the rest of its preparation.
  [Equal.symbol](that: unknown): boolean {
    return this === that
  }
  [Hash.symbol](): number {
    return Hash.hash(this.chunk.seq)
  }
  get input(): Effect.Effect<HandlerInput<unknown>, Undecodable> {
    const first = this.#decoded
    this.#decoded = undefined
    const toInput = (output: unknown) => ({ output, call: callOf(this.chunk) })
    if (first !== undefined) return Effect.succeed(toInput(first.value))
    // it has decoded before, or takes long
    const decodedAgain = Effect.suspend(() => {
      const { payload } = this.chunk
      return decode(this.handler, "data" in payload ? payload.data : null, this.chunk.schemaVersion)
    })
    return Effect.matchCauseEffect(decodedAgain, {
      onSuccess: (output) => Effect.succeed(toInput(output)),
      onFailure: (cause) =>
        // the run is out of time
        Cause.hasInterruptsOnly(cause)
          ? Effect.interrupt
          : Effect.fail(new Undecodable({ chunk: this.chunk, ...deathOf(cause) }))
    })
  }
}

/** Whether a chunk was prepared, and not settled. */
export const isPrepared = (result: Prepared | Settlement): result is Prepared => result._tag === "Prepared"

const bury = (chunk: ClaimedChunk, reason: DeathReason, message: string, handler = ""): Settlement =>
  Settlement.Bury({ chunk, reason, charge: false, failure: { handler, kind: reason, message } })

/**
 * Finds a chunk's handler and decodes its output, or returns how the chunk is settled instead: parked or buried. Nearly
 * all schemas decode synchronously; then the result is not an effect, and costs no fiber step.
 *
 * Decoding that does not end {@link soon} is left to the run of its handler, which has a time limit; that of the handler's
 * other outputs in this claim as well.
 */
export const prepare = (
  registry: HandlerRegistry["Service"],
  paused: ReadonlyArray<Kind.Kind>,
  maxCrashes: number
) => {
  const slow = new Set<Handler>()
  return (chunk: ClaimedChunk): Prepared | Settlement | Effect.Effect<Prepared | Settlement> => {
    if (paused.some((pause) => Kind.covers(pause, Kind.of(chunk)))) return Settlement.Park({ chunk, reason: "paused" })
    if (chunk.loneCrashes >= maxCrashes) {
      const message = `${chunk.loneCrashes} workers died while they held this chunk alone`
      return bury(chunk, "crashing", message)
    }
    const handler = registry.find(chunk.namespace, chunk.key.schemaIdentity)
    if (handler === undefined) return Settlement.Park({ chunk, reason: "no-handler" })
    // before it is decoded: its text may be of any shape
    if (chunk.schemaVersion > handler.output.version) return Settlement.Park({ chunk, reason: "newer-version" })
    const { payload } = chunk
    if ("withheld" in payload) return bury(chunk, "undecodable", payload.withheld, handler.name)
    if (slow.has(handler)) return new GivenOnce(chunk, handler, undefined)
    const decoded = decode(handler, payload.data, chunk.schemaVersion)
    if (isExit(decoded)) return toPrepared(chunk, handler, decoded)
    return Effect.map(soon(decoded), (exit) => {
      if (Option.isSome(exit)) return toPrepared(chunk, handler, exit.value)
      slow.add(handler)
      return new GivenOnce(chunk, handler, undefined)
    })
  }
}

// an `Exit` is an effect that has already ended, with the same types
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
  const { message, reason } = deathOf(decoded.cause)
  return bury(chunk, reason, message, handler.name)
}

/** Why a chunk that does not decode becomes a dead letter. */
const deathOf = (
  cause: Cause.Cause<unknown>
): { readonly reason: DeathReason; readonly message: string } => {
  const error = Cause.squash(cause)
  if (error instanceof UnknownVersion) return { reason: "unknown-version", message: error.message }
  // an upcast or a schema of the application may throw: then the chunk does not decode
  const message = Schema.isSchemaError(error)
    ? shorten(error.message, longestReason)
    : `decoding threw: ${describe(error)}`
  return { reason: "undecodable", message }
}

/** The settlement of a chunk whose run has found out that it does not decode. No attempt is charged. */
export const buried = ({ chunk, message, reason }: Undecodable, handler: Handler): Settlement =>
  bury(chunk, reason, message, handler.name)

/**
 * Divides the chunks into rounds. Each round is one handler's share, as large as the ordering keys allow. A chunk comes
 * after all older ones of its ordering key, in the same round or an earlier one. A chunk that failed before has its own
 * round.
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
 * Keeps the claim's order, but sorts the chunks of each ordering key oldest first: a retry is ranked by its due time,
 * behind chunks of its key that were recorded after it.
 */
const oldestFirst = (prepared: ReadonlyArray<Prepared>): ReadonlyArray<Prepared> => {
  if (prepared.every((one) => one.chunk.orderingKey === undefined)) return prepared
  const byKey = Map.groupBy(prepared, (one) => orderingKeyOf(one.chunk))
  for (const [key, chain] of byKey) if (key !== undefined) chain.sort((a, b) => a.chunk.seq < b.chunk.seq ? -1 : 1)
  const places = new Map([...byKey].map(([key, chain]) => [key, chain.values()]))
  return prepared.map((one) => places.get(orderingKeyOf(one.chunk))?.next().value ?? one)
}

const nextRound = (rest: ReadonlyArray<Prepared>): readonly [ReadonlyArray<Prepared>, ReadonlyArray<Prepared>] => {
  const shares = new Map<Handler, Array<Prepared>>()
  // the handler for which a key's chunks are taken; ended by a chunk of another handler, or one that failed before
  const runs = new Map<string, Handler | "ended">()
  for (const one of rest) {
    const key = orderingKeyOf(one.chunk)
    const run = key === undefined ? undefined : runs.get(key)
    const failedBefore = one.chunk.attempts > 0
    if (failedBefore && run === undefined && key === undefined) continue
    if (failedBefore || (run !== undefined && run !== one.handler)) {
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
  // only chunks that failed before are left: the oldest of them runs alone
  if (largest.length === 0) return [rest.slice(0, 1), rest.slice(1)]
  if (largest.length === rest.length) return [largest, []]
  const taken = new Set(largest)
  return [largest, rest.filter((one) => !taken.has(one))]
}
