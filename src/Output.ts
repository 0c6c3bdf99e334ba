/**
 * Declares outputs. An output is a kind of structured answer: an identity, a version, a schema, and the upcasts that
 * convert answers recorded at older versions to the newest. The recorded answer itself never changes.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Identity from "./Identity.ts"
import { partsOf } from "./internal/elements.ts"
import { fingerprintOf, mark } from "./internal/fingerprint.ts"
import { storableOutput } from "./internal/storableJson.ts"
import type { RecordedOutput } from "./ServiceCall.ts"

/** Marks a value as an output, even one from another copy of the package. */
export const TypeId = "~effect-sluice/Output"

/** The literal type of an output's identity: four parts, the first of them `schemas`. */
export type SchemaIdentity = `schemas.${string}.${string}.${string}`

/** The last part of an identity: how handlers are keyed in their group. */
// an identity typed as `string` has a name typed as `string`
export type NameOf<Id extends string> = string extends Id ? string
  : Id extends `schemas.${string}.${string}.${infer Name}` ? Name
  : never

/** Converts the JSON of one version to the JSON of the next. */
export type Upcast = (data: Schema.Json) => Effect.Effect<Schema.Json, Schema.SchemaError>

/**
 * A kind of structured answer. Made by {@link make}, usually as a class:
 *
 * ```ts
 * export class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
 *   version: 1,
 *   schema: Schema.Struct({ messages: Schema.NonEmptyArray(Schema.String), image_requested: Schema.Boolean })
 * }) {}
 * ```
 */
export interface Output<Id extends string, S extends Schema.Codec<unknown, unknown>> {
  new(_: never): {}
  readonly [TypeId]: typeof TypeId
  /** `schemas.namespace.group.name`. */
  readonly identity: Id
  /** The last part of the identity. */
  readonly shortName: NameOf<Id>
  /** The version new answers are recorded at; from 1. */
  readonly version: number
  /** The schema that answers of this version are encoded and decoded by. */
  readonly schema: S
  /** Decodes JSON recorded at `version`, through the upcasts. Fails with `UnknownVersion` or `SchemaError`. */
  readonly decode: (
    data: Schema.Json,
    version: number
  ) => Effect.Effect<S["Type"], UnknownVersion | Schema.SchemaError>
  /**
   * @internal A hash of identity, version and the JSON Schema of the answers; undefined without a JSON Schema. What `encode`
   * makes is recorded with it.
   */
  readonly fingerprint: number | undefined
  /** Encodes a value as an output to be recorded. */
  encode(
    value: S["Type"],
    options?: { readonly part?: string | undefined }
  ): Effect.Effect<RecordedOutput, Schema.SchemaError>
  /**
   * The outputs of an answer that is a list, one for each element, so that only a bad element becomes a dead letter. Takes
   * the elements as the model returned them, and checks nothing: an element that does not fit the schema is recorded as
   * well. The drain makes a dead letter of it (`undecodable`), and persists the others.
   *
   * ```ts
   * const { findings } = JSON.parse(text)
   * yield* recorder.record({ ...call, outputs: Finding.each(findings, { part: "code" }) })
   * ```
   *
   * Each element has a part that is the same whenever the same answer is recorded: its index, `"0"` and on, or what
   * `part` says, see {@link EachOptions}. Chunks keep the order of the elements. With an `orderingKey` in the call, they
   * are persisted in that order, and a dead one holds up those behind it until it is redriven or discarded
   * (`SLUICE_DEAD_BLOCKS_KEY`); without, each is persisted independently.
   *
   * What can come out of `JSON.parse` and cannot be stored is replaced: NUL by `\0`, lone surrogates by U+FFFD, a
   * number beyond all doubles and what is nested more than 512 deep by a text. A call may have `SLUICE_MAX_OUTPUTS` outputs,
   * and no fewer than one: `record` refuses an empty list.
   */
  each(elements: ReadonlyArray<Schema.Json>, options?: EachOptions<S["Encoded"]>): ReadonlyArray<RecordedOutput>
}

/** How {@link Output} `each` names the parts. */
export interface EachOptions<Encoded> {
  /**
   * The name of a property that tells the elements apart, or a function of the element as the model returned it. Where
   * that is neither a number nor a text of 1 to 116 characters, because the element is bad, the part is `#` and the
   * index: `"#3"`. Of elements with the same key, the second is `key#2`, the third `key#3`, so none is lost. Without
   * `part`, an element's part is its index.
   */
  readonly part?:
    | (Encoded extends object ? keyof Encoded & string : never)
    | ((element: Schema.Json, index: number) => string | number | undefined)
    | undefined
}

/** Whether a value is an output: a result of {@link make}, or a class that extends one. */
export const isOutput = (value: unknown): value is Any => Predicate.hasProperty(value, TypeId)

/** Any output, without its types. */
export type Any = Output<string, Schema.Codec<unknown, unknown>>
/** The decoded value that a handler of this output gets. */
export type Value<O> = O extends { readonly schema: infer S extends Schema.Top } ? S["Type"] : never

/**
 * An answer was recorded at a version this program cannot decode: newer than its output's, or older without an upcast.
 * A drain parks the newer, until there is a worker that reads it, and buries the older: add the upcast, then redrive.
 */
export class UnknownVersion extends Schema.TaggedError<UnknownVersion>()("UnknownVersion", {
  schemaIdentity: Schema.String,
  version: Schema.Int,
  known: Schema.Int
}) {
  override get message() {
    return this.version > this.known
      ? `${this.schemaIdentity} was recorded at version ${this.version}, this program knows up to ${this.known}: ` +
        `deploy the newer program, parked chunks continue by themselves`
      : `${this.schemaIdentity} was recorded at version ${this.version}, and there is no upcast from it ` +
        `to ${this.known}: add one, then redrive`
  }
}

/** An output cannot be declared at this version: the tables hold whole numbers from 1 to 2147483647. */
export class VersionInvalid extends Schema.TaggedError<VersionInvalid>()("VersionInvalid", {
  schemaIdentity: Schema.String,
  version: Schema.String
}) {
  override get message() {
    return `${this.schemaIdentity} cannot have version ${this.version}: write a whole number from 1 to ${mostVersion}`
  }
}

/** The largest version that the tables hold. */
const mostVersion = 2_147_483_647

/**
 * An upcast from one version to the next: decodes the old JSON by its own schema and returns the JSON of the next
 * version.
 *
 * ```ts
 * class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
 *   version: 2,
 *   schema: Schema.Struct({ messages: Schema.Array(Schema.String) }),
 *   upcasts: { 1: Output.upcast(Schema.Struct({ text: Schema.String }), ({ text }) => ({ messages: [text] })) }
 * }) {}
 * ```
 */
export const upcast = <S extends Schema.Codec<unknown, unknown>>(
  from: S,
  next: (old: S["Type"]) => Schema.Json
): Upcast => {
  const decode = Schema.decodeUnknownEffect(from)
  return (data) => Effect.map(decode(data), next)
}

const lazy = <A>(make: () => A): () => A => {
  let made: { readonly value: A } | undefined
  return () => (made ??= { value: make() }).value
}

/**
 * Declares an output. `version` starts at 1; raise it when recorded answers would no longer decode, or would decode to
 * something else, and define in `upcasts` how the JSON of each older version becomes that of the next. Throws
 * `IdentityInvalid` for an identity that is not `schemas.namespace.group.name`, and {@link VersionInvalid}.
 */
export const make = <const Id extends SchemaIdentity, S extends Schema.Codec<any, any>>(
  identity: Id,
  options: {
    readonly schema: S
    readonly version?: number | undefined
    readonly upcasts?: { readonly [version: number]: Upcast } | undefined
  }
): Output<Id, S> => {
  const parsed = Result.getOrThrow(Identity.parse(identity))
  if (parsed.domain !== "schemas") {
    throw new Identity.IdentityInvalid({ text: identity, part: "domain", reason: `is ${parsed.domain}, not schemas` })
  }
  const version = options.version ?? 1
  if (!Number.isSafeInteger(version) || version < 1 || version > mostVersion) {
    throw new VersionInvalid({ schemaIdentity: identity, version: String(version) })
  }
  const codec = Schema.toCodecJson(options.schema)
  const decodeLatest = Schema.decodeUnknownEffect(codec)
  const encodeLatest = Schema.encodeUnknownEffect(codec)
  const decodeOlder = Effect.fnUntraced(function*(data: Schema.Json, recorded: number) {
    let current = data
    for (let from = recorded; from !== version; from++) {
      const step = options.upcasts?.[from]
      if (step === undefined) {
        return yield* new UnknownVersion({ schemaIdentity: identity, version: recorded, known: version })
      }
      current = yield* step(current)
    }
    return yield* decodeLatest(current)
  })
  // without an upcast and with a synchronous schema this is an `Exit`, which costs no fiber step
  const decode = (data: Schema.Json, recorded: number) =>
    recorded === version ? decodeLatest(data) : decodeOlder(data, recorded)
  // at its first use: a JSON Schema takes longer than the rest of a declaration
  const fingerprint = lazy(() => fingerprintOf(identity, version, codec))
  const encode = (value: S["Type"], encodeOptions?: { readonly part?: string | undefined }) =>
    Effect.map(encodeLatest(value), (data): RecordedOutput =>
      mark({
        schema: identity,
        version,
        data: data as Schema.Json,
        ...(encodeOptions?.part === undefined ? {} : { part: encodeOptions.part })
      }, fingerprint()))
  const each = (elements: ReadonlyArray<Schema.Json>, eachOptions?: EachOptions<S["Encoded"]>) => {
    const parts = partsOf(elements, eachOptions?.part)
    return elements.map((data, index) => storableOutput({ schema: identity, version, part: parts[index]!, data }))
  }
  // The members are on a function, so the value can be the base of a class; the class name is then the output's.
  function Base() {}
  Object.defineProperty(Base, "fingerprint", { get: fingerprint })
  return Object.assign(Base, {
    [TypeId]: TypeId,
    identity,
    shortName: parsed.name,
    version,
    schema: options.schema,
    decode,
    encode,
    each
    // the constructor's type only exists to let `class X extends Output.make(...) {}` type-check
  }) as unknown as Output<Id, S>
}
