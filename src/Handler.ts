/**
 * A handler is the code that persists one kind of chunk for one namespace. It is written for one chunk; Sluice runs the
 * chunks of one kind one after another in one transaction, or together where the handler says so, so that repositories
 * written with `SqlResolver` become one statement for the whole batch. There is no transaction code and no idempotency
 * code in a handler.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { DomainObject } from "./DomainObject.ts"
import { partProblem } from "./Identity.ts"
import { word } from "./internal/escape.ts"
import { quote, shorten } from "./internal/quote.ts"
import { type Any as AnyOutput, isOutput } from "./Output.ts"
import type { RetrySchedule } from "./RetryPolicy.ts"
import type { ChunkKey } from "./ServiceCall.ts"

/** The namespace whose handlers serve every other namespace that has none of its own: `core`. */
export { core as coreNamespace } from "./Kind.ts"

/** A handler asked the call's context for something that is not there. The chunk is buried: trying again cannot help. */
export class ContextMissing extends Schema.TaggedError<ContextMissing>()("ContextMissing", {
  callId: Schema.String,
  key: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `context ${quote(this.key)} of call ${word(this.callId)} ${this.reason}: record it with the call`
  }
}

/**
 * A handler's way to say that trying again cannot help: the chunk goes to the dead letters at once.
 *
 * ```ts
 * if (simulation.closed) return yield* new HandlerRejected({ reason: `simulation ${id} is closed` })
 * ```
 */
export class HandlerRejected
  extends Schema.TaggedError<HandlerRejected>()("HandlerRejected", { reason: Schema.String })
{
  override get message() {
    return this.reason
  }
}

/** What a handler is told of the call its output belongs to. */
export interface HandlerCall {
  readonly callId: string
  readonly namespace: string
  readonly service: string
  readonly correlationId: string
  /** Which output of its kind this is, `""` when there is one. */
  readonly part: string
  readonly orderingKey: string | undefined
  readonly finishedAt: DateTime.Utc
  /** 1 the first time, counting failures only: never raised by a crash or by a batch-mate. */
  readonly attempt: number
  /** The same at every run for this chunk: give it to whatever you call outside the database. */
  readonly idempotencyKey: string
  readonly key: ChunkKey
  /** A text of the call's context. Fails with {@link ContextMissing} when absent or not a text. */
  readonly context: (key: string) => Effect.Effect<string, ContextMissing>
  /** A value of the call's context through a schema of your own. */
  readonly contextAs: <A, I>(key: string, schema: Schema.Codec<A, I>) => Effect.Effect<A, ContextMissing>
  readonly input: Schema.Json
}

/** What a handler is given: the decoded output, and its call. */
export interface HandlerInput<out A> {
  readonly output: A
  readonly call: HandlerCall
}

/** What a handler may give back: the rows it created, many, one or none. */
export type Created = DomainObject | ReadonlyArray<DomainObject> | void

/** Persists one chunk. */
export type Persist<A, E = unknown, R = never> = (input: HandlerInput<A>) => Effect.Effect<Created, E, R>

/** Persists a batch; gives back what was created for each input, in the order of the inputs. */
export type PersistMany<A, E = unknown, R = never> = (
  inputs: ReadonlyArray<HandlerInput<A>>
) => Effect.Effect<ReadonlyArray<Created>, E, R>

/**
 * How the runs of a handler share transactions.
 *
 * - `"batch"`: one after another in the transaction of their batch. The tables, the ledger and what each run is given
 *   are those of runs that had a transaction each, in that order.
 * - `"transaction"`: each in a transaction of its own.
 * - `"together"`: all of a batch at once in one transaction, so that the requests they make of a `SqlResolver` become one
 *   statement for all. This is a promise: all that a run sends is requests of resolvers, or one statement, and no answer
 *   that it computes with is changed by another run. A run that is seen to break it (a lock, a setting, a savepoint, a
 *   second statement of its own) is rolled back with its batch and run again one after another, with a warning.
 */
export type Isolation = "batch" | "transaction" | "together"

/** What can be set for one handler. Everything has a default in `Settings`. */
export interface Options {
  /** Written to the ledger, so that one can tell later which code made which rows. Default 1. */
  readonly version?: number
  /** Failed attempts before the chunk is buried as exhausted. */
  readonly maxAttempts?: number
  /** How long one run may take; then it counts as failed. */
  readonly timeout?: Duration.Input
  /**
   * The delays between attempts, replayed over the persisted attempt count. Its end does not end the retries. One by `cron`
   * tells when to try again, counted from the failure.
   */
  readonly retry?: RetrySchedule
  /**
   * Errors for which trying again cannot help, besides `HandlerRejected` and `ContextMissing`. Its parameter may be declared as
   * the errors that the handler fails with; the compiler checks that it takes every one of them.
   */
  // a method, so that a narrower parameter is accepted here and checked by `NoExtra`, which knows the handler's errors
  permanent?(error: unknown): boolean
  /**
   * How its runs share transactions. Without it as `"batch"`, and as `"transaction"` from the moment a run sends a statement
   * that may leave something in the transaction beside rows, such as a setting or a role. With `"batch"` such statements
   * are sent in the batch's transaction: what they leave is there for the runs that follow.
   */
  readonly isolation?: Isolation
}

/** A handler as the user writes it: a function, or a record with options and `persist` or `persistMany`. */
export type Definition<A, R = never> =
  | Persist<A, unknown, R>
  | (Options & { readonly persist: Persist<A, unknown, R> })
  | (Options & { readonly persistMany: PersistMany<A, unknown, R> })

/** What the compiler says where something is written that no handler has. */
export interface Mistake<out Message extends string> {
  readonly mistake: Message
}

/** The errors a definition fails with. */
export type ErrorsOf<D> = D extends
  { readonly persist: (...args: ReadonlyArray<never>) => Effect.Effect<unknown, infer E, unknown> } ? E
  : D extends { readonly persistMany: (...args: ReadonlyArray<never>) => Effect.Effect<unknown, infer E, unknown> } ? E
  : never

/** What `permanent` must take. */
type PermanentFor<D> = D extends { permanent(error: infer Taken): boolean } ? [ErrorsOf<D>] extends [Taken] ? unknown
  : { readonly permanent: Mistake<"permanent must take every error that the handler can fail with"> }
  : unknown

/**
 * Options no handler has are refused by the compiler, and so are two ways to persist at once, and a `permanent` that does
 * not take every error of its handler.
 */
export type NoExtra<D> = [D] extends [never] ? unknown
  : D extends (...args: ReadonlyArray<never>) => unknown ? unknown
  : D extends { readonly persist: unknown; readonly persistMany: unknown }
    ? { readonly persistMany: Mistake<"a handler has persist or persistMany, not both"> }
  :
    & PermanentFor<D>
    & {
      readonly [K in Exclude<keyof D, keyof Options | "persist" | "persistMany">]: Mistake<
        `no handler has an option '${K & string}'`
      >
    }

/** Any definition, its types forgotten. */
export type AnyDefinition = Definition<any, any>

/** The services a definition asks for. */
export type ServicesOf<D> = D extends (...args: ReadonlyArray<never>) => Effect.Effect<unknown, unknown, infer R> ? R
  : D extends { readonly persist: (...args: ReadonlyArray<never>) => Effect.Effect<unknown, unknown, infer R> } ? R
  : D extends { readonly persistMany: (...args: ReadonlyArray<never>) => Effect.Effect<unknown, unknown, infer R> } ? R
  : never

/**
 * The phantom service that stands for "there is a handler for this output in this namespace". A registry requires one
 * for each output of its groups, so that a forgotten layer does not compile.
 */
export interface HandlerOf<out Tag extends string> {
  readonly _: "effect-sluice/HandlerOf"
  readonly handler: Tag
}

/** A handler built, its types forgotten: what the registry holds and the drain runs. */
export interface Handler {
  readonly namespace: string
  readonly output: AnyOutput
  /** `namespace/short-name`, for people: ledger, logs, metrics. */
  readonly name: string
  readonly options: Options
  /** What its layer was built with: a floor under the services of whoever runs it. */
  readonly services: Context.Context<never>
  readonly run:
    | { readonly _tag: "One"; readonly persist: Persist<unknown> }
    | { readonly _tag: "Many"; readonly persistMany: PersistMany<unknown> }
}

const keyOf = (namespace: string, schemaIdentity: string): string =>
  `effect-sluice/HandlerOf/${namespace}/${schemaIdentity}/`

/**
 * @internal The key of a handler in a context. Each layer of handlers has a number, so that two for one output are both
 * seen.
 */
export const contextKey = (namespace: string, schemaIdentity: string, layer: number): string =>
  keyOf(namespace, schemaIdentity) + layer

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
const known: ReadonlySet<string> = new Set([...options, "persist", "persistMany"])

/** The largest number that the ledger holds. */
const mostVersion = 2_147_483_647

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) > 0

/** What is wrong with a handler as it was written. */
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
    return `retry ${quote(retry)} is no Schedule: write for example Schedule.spaced("1 minute")`
  }
  if (permanent !== undefined && typeof permanent !== "function") return "permanent is no function"
  if (isolation !== undefined && !isolations.includes(isolation)) {
    return `isolation ${quote(isolation)} is not one of ${isolations.join(", ")}`
  }
  const limit = timeout === undefined ? undefined : Option.getOrUndefined(Duration.fromInput(timeout))
  return timeout === undefined || (limit !== undefined && Duration.isPositive(limit))
    ? undefined
    : `timeout ${quote(timeout)} is no time to run in: write for example "30 seconds"`
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
  // the compiler refuses most of this; the rest should stop the start, not the drain
  if (!isOutput(output)) {
    throw new Error(`a handler of namespace ${quote(namespace)} is for no output: give the class that Output.make made`)
  }
  const name = `${namespace}/${output.shortName}`
  const problem = namespaceProblem(namespace) ?? definitionProblem(definition)
  if (problem !== undefined) throw new Error(`handler ${shorten(name)}: ${problem}`)
  const named = { namespace, output, name, services }
  // The definition's own types were checked where it was written; from here on the output's codec guarantees the value.
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
