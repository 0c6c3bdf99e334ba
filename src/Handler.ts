/**
 * Defines handlers: the code that persists one kind of chunk for one namespace. A handler is written for one chunk.
 * Sluice runs the chunks of one kind one after another in one transaction, or together where the handler says so: then
 * repositories written with `SqlResolver` send one statement for the whole batch. A handler contains no transaction
 * code and no idempotency code.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { CallFacts } from "./CallFacts.ts"
import type { Declaration } from "./Declaration.ts"
import type { DomainObject } from "./DomainObject.ts"
import { partProblem } from "./Identity.ts"
import { word } from "./internal/escape.ts"
import { quote, shorten } from "./internal/quote.ts"
import { type Any as AnyOutput, isOutput } from "./Output.ts"
import type { RetrySchedule } from "./RetryPolicy.ts"
import type { ChunkKey } from "./ServiceCall.ts"

/** The namespace whose handlers serve every other namespace without a handler of its own: `core`. */
export { core as coreNamespace } from "./Kind.ts"

/**
 * A handler read a key of the call's context that is missing or does not decode. The chunk is buried: a retry cannot
 * help.
 */
export class ContextMissing extends Schema.TaggedError<ContextMissing>()("ContextMissing", {
  callId: Schema.String,
  key: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `context ${quote(this.key)} of call ${word(this.callId)} ${this.reason}: record it with the call. ` +
      "One that is recorded keeps its context: let its handler do without (`optionalContext`, or a program) and redrive " +
      "it, or discard it and record it anew under another id"
  }
}

/**
 * A handler fails with this when a retry cannot help: the chunk becomes a dead letter immediately.
 *
 * ```ts
 * if (simulation.closed) {
 *   return yield* new Handler.HandlerRejected({ reason: `simulation ${simulation.id} is closed` })
 * }
 * ```
 */
export class HandlerRejected
  extends Schema.TaggedError<HandlerRejected>()("HandlerRejected", { reason: Schema.String })
{
  override get message() {
    return this.reason
  }
}

/** The call that the handler's output belongs to. */
export interface HandlerCall {
  /** The id of the call. */
  readonly callId: string
  /** The namespace that the call was recorded in. For a handler of `core` it is not the handler's own. */
  readonly namespace: string
  /** The identity of the service that was called. */
  readonly service: string
  /** The correlation id that was recorded with the call; the call id when none was. */
  readonly correlationId: string
  /** Tells outputs of one kind in one call apart; `""` when there is only one. */
  readonly part: string
  /** The ordering key of the call, if it has one. */
  readonly orderingKey: string | undefined
  /** When the service finished; when the call was recorded, if it does not say. */
  readonly finishedAt: DateTime.Utc
  /** The facts of the call: model, usage, cost, prompt. `{}` when it has none. */
  readonly facts: CallFacts
  /** 1 on the first attempt; counts failures of this chunk only, not crashes or failures of other chunks of the batch. */
  readonly attempt: number
  /** The same at every run for this chunk: pass it to services outside the database. */
  readonly idempotencyKey: string
  /** The key of the chunk in the ledger. */
  readonly key: ChunkKey
  /**
   * A string of the call's context, as recorded: see `ServiceCall`. Fails with {@link ContextMissing} when absent or not a
   * string.
   */
  readonly context: (key: string) => Effect.Effect<string, ContextMissing>
  /**
   * A value of the call's context, decoded by a schema of your own. Fails with `ContextMissing` when it does not
   * decode.
   */
  readonly contextAs: <A, I>(key: string, schema: Schema.Codec<A, I>) => Effect.Effect<A, ContextMissing>
  /** The input that was recorded with the call; null when there is none. */
  readonly input: Schema.Json
}

/** The input of a handler: the decoded output, and its call. */
export interface HandlerInput<out A> {
  /** The answer, decoded by the output's schema, upcast from older versions. */
  readonly output: A
  /** The call that it belongs to. */
  readonly call: HandlerCall
}

/** What a handler may return: the rows it created, many, one or none. */
export type Created = DomainObject | ReadonlyArray<DomainObject> | void

/** Persists one chunk. */
export type Persist<A, E = unknown, R = never> = (input: HandlerInput<A>) => Effect.Effect<Created, E, R>

/** Persists a batch; returns what was created for each input, in the order of the inputs. */
export type PersistMany<A, E = unknown, R = never> = (
  inputs: ReadonlyArray<HandlerInput<A>>
) => Effect.Effect<ReadonlyArray<Created>, E, R>

/**
 * How the runs of a handler share transactions.
 *
 * - `"batch"`: one after another in the transaction of their batch. The tables, the ledger and what each run reads are
 *   the same as if each run had its own transaction, in that order.
 * - `"transaction"`: each in a transaction of its own.
 * - `"together"`: all of a batch concurrently in one transaction, so their requests to a `SqlResolver` become one
 *   statement. This is a promise: a run sends only requests of resolvers, or one statement, and no other run changes a
 *   result that it computes with. A run that breaks the promise (a lock, a setting, a savepoint, a second statement of
 *   its own) is rolled back with its batch and run again one after another, with a warning.
 */
export type Isolation = "batch" | "transaction" | "together"

/** The options of a handler. Every default is in `Settings`. */
export interface Options {
  /** Written to the ledger, to tell later which code created which rows. Default 1. */
  readonly version?: number | undefined
  /** Failed attempts before the chunk is buried as exhausted. */
  readonly maxAttempts?: number | undefined
  /** How long one run may take before it counts as failed. */
  readonly timeout?: Duration.Input | undefined
  /**
   * The delays between attempts, replayed over the persisted attempt count. When the schedule ends, retries continue. A
   * `cron` schedule gives the next time, counted from the failure.
   */
  readonly retry?: RetrySchedule | undefined
  /**
   * Errors for which a retry cannot help, besides `HandlerRejected` and `ContextMissing`. Its parameter may be declared
   * as the errors that the handler fails with; the compiler checks that it accepts all of them.
   */
  // a method: a narrower parameter is accepted here and checked by `NoExtra`, which knows the handler's errors
  permanent?(error: unknown): boolean
  /**
   * How its runs share transactions. The default is `"batch"`, and `"transaction"` from the moment a run sends a
   * statement that may leave something other than rows in the transaction, such as a setting or a role. With an
   * explicit `"batch"` such statements are sent in the batch's transaction, and their effects are visible to the runs
   * that follow.
   */
  readonly isolation?: Isolation | undefined
}

/** A handler as the user writes it: a function, or a record with options and `persist` or `persistMany`. */
export type Definition<A, R = never> =
  | Persist<A, unknown, R>
  | (Options & { readonly persist: Persist<A, unknown, R> })
  | (Options & { readonly persistMany: PersistMany<A, unknown, R>; readonly declaration?: Declaration })

/** The compiler error for an option or handler that does not exist. */
export interface Mistake<out Message extends string> {
  /** What is wrong, in words. */
  readonly mistake: Message
}

/** The errors a definition fails with. */
export type ErrorsOf<D> = D extends
  { readonly persist: (...args: ReadonlyArray<never>) => Effect.Effect<unknown, infer E, unknown> } ? E
  : D extends { readonly persistMany: (...args: ReadonlyArray<never>) => Effect.Effect<unknown, infer E, unknown> } ? E
  : never

/** Requires `permanent` to accept every error of the handler. */
export type PermanentFor<D> = D extends { permanent(error: infer Taken): boolean } ?
  [ErrorsOf<D>] extends [Taken] ? unknown
  : { readonly permanent: Mistake<"permanent must take every error that the handler can fail with"> }
  : unknown

/**
 * The compiler refuses options that do not exist, `persist` together with `persistMany`, and a `permanent` that does
 * not accept every error of its handler.
 */
export type NoExtra<D> = [D] extends [never] ? unknown
  : D extends (...args: ReadonlyArray<never>) => unknown ? unknown
  : D extends { readonly persist: unknown; readonly persistMany: unknown }
    ? { readonly persistMany: Mistake<"a handler has persist or persistMany, not both"> }
  :
    & PermanentFor<D>
    & {
      readonly [K in Exclude<keyof D, keyof Options | "persist" | "persistMany" | "declaration">]: Mistake<
        `no handler has an option '${K & string}'`
      >
    }

/** Any definition, without its types. */
export type AnyDefinition = Definition<any, any>

/** The services that a definition requires. */
export type ServicesOf<D> = D extends (...args: ReadonlyArray<never>) => Effect.Effect<unknown, unknown, infer R> ? R
  : D extends { readonly persist: (...args: ReadonlyArray<never>) => Effect.Effect<unknown, unknown, infer R> } ? R
  : D extends { readonly persistMany: (...args: ReadonlyArray<never>) => Effect.Effect<unknown, unknown, infer R> } ? R
  : never

/**
 * The phantom service for "there is a handler for this output in this namespace". A registry requires one for each
 * output of its groups, so a missing layer does not compile.
 */
export interface HandlerOf<out Tag extends string> {
  /** Tells it from other phantom types. */
  readonly _: "effect-sluice/HandlerOf"
  /** `namespace/schema-identity`. */
  readonly handler: Tag
}

/** A built handler, without its types: the registry holds it and the drain runs it. */
export interface Handler {
  /** The namespace that it serves; `core` serves all. */
  readonly namespace: string
  /** The output that it persists. */
  readonly output: AnyOutput
  /** `namespace/short-name`, for display in ledger, logs and metrics. */
  readonly name: string
  /** Its options; those it leaves out come from `Settings`. */
  readonly options: Options
  /** The services its layer was built with; services of the running fiber override them. */
  readonly services: Context.Context<never>
  /** What it writes, when it is declared by `TableHandler` and not programmed. */
  readonly declaration: Declaration | undefined
  /** How it is run: for one chunk, or for many at once. */
  readonly run:
    | { readonly _tag: "One"; readonly persist: Persist<unknown> }
    | { readonly _tag: "Many"; readonly persistMany: PersistMany<unknown> }
}

const ofGroups = "effect-sluice/HandlerOf/"

const keyOf = (namespace: string, schemaIdentity: string): string => `${ofGroups}${namespace}/${schemaIdentity}/`

/**
 * @internal The key of a handler in a context. Each layer of handlers has a number: two layers for one output stay
 * distinct.
 */
export const contextKey = (namespace: string, schemaIdentity: string, layer: number): string =>
  keyOf(namespace, schemaIdentity) + layer

/** @internal The handlers of all groups whose layers were provided, by their namespaces and schema identities. */
export const allFromContext = (context: Context.Context<never>): ReadonlyArray<Handler> =>
  [...context.mapUnsafe]
    .filter(([key]) => key.startsWith(ofGroups))
    // only a group's layer writes under the prefix
    .map(([, handler]) => handler as Handler)

/** @internal The handlers for an output in a context: one, unless several layers of them were provided. */
export const fromContext = (
  context: Context.Context<never>,
  namespace: string,
  schemaIdentity: string
): ReadonlyArray<Handler> => {
  const prefix = keyOf(namespace, schemaIdentity)
  return [...context.mapUnsafe]
    .filter(([key]) => key.startsWith(prefix))
    .sort(([a], [b]) => Number(a.slice(prefix.length)) - Number(b.slice(prefix.length)))
    // only a group's layer writes under the prefix
    .map(([, handler]) => handler as Handler)
}

const isolations: ReadonlyArray<unknown> = ["batch", "transaction", "together"] satisfies ReadonlyArray<Isolation>
const options = ["version", "maxAttempts", "timeout", "retry", "permanent", "isolation"] satisfies ReadonlyArray<
  keyof Options
>
const known: ReadonlySet<string> = new Set([...options, "persist", "persistMany", "declaration"])

/** The largest number that the ledger holds. */
const mostVersion = 2_147_483_647

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) > 0

/** Validates a definition; returns the problem, if there is one. */
const definitionProblem = (definition: AnyDefinition): string | undefined => {
  if (typeof definition === "function") return undefined
  if (!Predicate.isObject(definition)) return "is neither a function nor a record with persist or persistMany"
  const written: Options & { readonly persist?: unknown; readonly persistMany?: unknown } = definition
  const { isolation, maxAttempts, permanent, persist, persistMany, retry, timeout, version } = written
  if (typeof (persist ?? persistMany) !== "function") return "has no function persist or persistMany"
  if (persist !== undefined && persistMany !== undefined) return "has both persist and persistMany: remove one"
  const unknown = Object.keys(definition).find((name) => !known.has(name))
  if (unknown !== undefined) return `has no option ${quote(unknown)}: there are ${options.join(", ")}`
  if (version !== undefined && !(isCount(version) && Number(version) <= mostVersion)) {
    return `version ${quote(version)} is not a whole number from 1 to ${mostVersion}, the largest that the ledger holds`
  }
  if (maxAttempts !== undefined && maxAttempts !== Infinity && !isCount(maxAttempts)) {
    return `maxAttempts ${quote(maxAttempts)} is not a whole number above 0`
  }
  if (retry !== undefined && !Schedule.isSchedule(retry)) {
    return `retry ${quote(retry)} is not a Schedule: write for example Schedule.spaced("1 minute")`
  }
  if (permanent !== undefined && typeof permanent !== "function") return "permanent is not a function"
  if (isolation !== undefined && !isolations.includes(isolation)) {
    return `isolation ${quote(isolation)} is not one of ${isolations.join(", ")}`
  }
  const limit = timeout === undefined ? undefined : Option.getOrUndefined(Duration.fromInput(timeout))
  return timeout === undefined || (limit !== undefined && Duration.isPositive(limit))
    ? undefined
    : `timeout ${quote(timeout)} is not a duration above 0: write for example "30 seconds"`
}

const namespaceProblem = (namespace: string): string | undefined => {
  const reason = partProblem(namespace)
  return reason === undefined ? undefined : `its namespace ${reason}`
}

/**
 * @internal Builds a handler from its definition and the services its layer was built with.
 */
export const build = (
  namespace: string,
  output: AnyOutput,
  definition: AnyDefinition,
  services: Context.Context<never>
): Handler => {
  // the compiler refuses most of this; the rest must fail at the start, not in the drain
  if (!isOutput(output)) {
    throw new Error(
      `a handler of namespace ${
        quote(namespace)
      } is for something that is not an output: give the class that Output.make made`
    )
  }
  const name = `${namespace}/${output.shortName}`
  const problem = namespaceProblem(namespace) ?? definitionProblem(definition)
  if (problem !== undefined) throw new Error(`handler ${shorten(name)}: ${problem}`)
  const declaration = "declaration" in definition ? definition.declaration : undefined
  if (declaration !== undefined && declaration.output !== output.identity) {
    throw new Error(`handler ${shorten(name)}: its declaration is for ${declaration.output}`)
  }
  const named = { namespace, output, name, services, declaration }
  // The definition's types were checked where it was written; from here on the output's codec guarantees the value.
  if (typeof definition === "function") {
    return { ...named, options: {}, run: { _tag: "One", persist: definition as Persist<unknown> } }
  }
  return "persist" in definition
    ? { ...named, options: definition, run: { _tag: "One", persist: definition.persist as Persist<unknown> } }
    : {
      ...named,
      options: definition,
      run: { _tag: "Many", persistMany: definition.persistMany as PersistMany<unknown> }
    }
}
