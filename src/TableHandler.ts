/**
 * Declared handlers: each says which column takes which field of the answer, instead of running a program. The store makes
 * the rows, in the batch's transaction, with one statement for each table. The layer of the handlers needs no client.
 *
 * ```ts
 * const patientReply = TableHandler.make(PatientReply, {
 *   table: "chatlab.message",
 *   object: "chatlab.Message",
 *   columns: ({ call, output }) => ({ simulation: call.context("simulationId"), content: output.text })
 * })
 * // in the group's layer: Chatlab.toLayer({ "patient-reply": patientReply })
 * ```
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import {
  callFields,
  type Constant,
  CurrentInsert,
  type Declaration,
  type FieldSource,
  type Given,
  type Source,
  tablesOf
} from "./Declaration.ts"
import type { Created, HandlerInput, Mistake, Options as HandlerOptions, PersistMany } from "./Handler.ts"
import { declarationProblem } from "./internal/declarationProblem.ts"
import { quote } from "./internal/quote.ts"
import type { Any, Output } from "./Output.ts"

const SourceId = "~effect-sluice/TableHandler/Source"

/** A value that a column can take. It records where the value is, and cannot be used to compute. */
export interface Field<out A> {
  /** Where the value is. */
  readonly [SourceId]: Source
  /** Carries the type of the value. Never set. */
  readonly _A?: A
}

/** The types without fields of their own. */
export type Leaf = string | number | bigint | boolean | symbol | null | undefined | Date | ReadonlyArray<unknown>

/** The names of the fields of a value; of a union, those of any member. */
export type FieldNames<A> = A extends Leaf ? never : keyof A & string

/** The type of a field; of a union, `undefined` where a member does not have it. */
export type FieldOf<A, K> = A extends Leaf ? undefined : K extends keyof A ? A[K] : undefined

/**
 * The fields of a JSON value, each again with its own. An array has none: it goes into a column as a whole, or `each` makes
 * a row of each element.
 */
export type Fields<A> = Field<A> & { readonly [K in FieldNames<A>]-?: Fields<FieldOf<A, K>> }

/** The facts of the call that a column can take. */
export interface CallFields {
  /** The id of the call. */
  readonly callId: Field<string>
  /** The namespace that the call was recorded in. */
  readonly namespace: Field<string>
  /** The identity of the service that was called. */
  readonly service: Field<string>
  /** The correlation id that was recorded with the call; the call id when none was. */
  readonly correlationId: Field<string>
  /** Tells outputs of one kind in one call apart; `""` when there is only one. */
  readonly part: Field<string>
  /** The ordering key; null when the call has none. */
  readonly orderingKey: Field<string | null>
  /** When the service finished, to the millisecond. */
  readonly finishedAt: Field<string>
  /** A text of the call's context. An answer whose call lacks it becomes a dead letter. */
  readonly context: (key: string) => Field<string>
  /** A value of the call's context. If it is missing, the column gets its default. */
  readonly optionalContext: (key: string) => Field<Schema.Json | undefined>
}

/** The options of all handlers except `isolation`: a batch of a declared handler is one statement for each table. */
export type Options = Omit<HandlerOptions, "isolation">

/** What a row can be made of: the answer, its call and, with `each` and `inner`, the elements. */
export interface RowFields<E, Item, Inner> {
  /** The answer. */
  readonly output: Fields<E>
  /** The call. */
  readonly call: CallFields
  /** The element, with `each`. */
  readonly item: [Item] extends [never] ? Mistake<"there is an item only with each"> : Fields<Item>
  /** The element's place in the array, from 1, with `each`. */
  readonly place: [Item] extends [never] ? Mistake<"there is a place only with each"> : Field<number>
  /** The inner element, with `inner`. */
  readonly inner: [Inner] extends [never] ? Mistake<"there is an inner element only with inner"> : Fields<Inner>
  /** The inner element's place in its array, from 1, with `inner`. */
  readonly innerPlace: [Inner] extends [never] ? Mistake<"there is an inner place only with inner"> : Field<number>
}

/** The columns of a table and their values: fields, facts of the call, or constants. */
export interface Columns {
  readonly [column: string]: Field<unknown> | Constant
}

/** A table, and what its columns take. `Of` is what a row can be made of. */
export interface Table<Of> {
  /** The table, as SQL names it: `chatlab.message`, found by the search path when no schema is named. */
  readonly table: string
  /** The `type` of the rows as domain objects. */
  readonly object: string
  /**
   * The column that identifies a row. Default `id`. If `columns` gives it no value, the table must make one: by a default,
   * an identity or a trigger.
   */
  readonly id?: string
  /**
   * The columns and their values: fields, facts of the call, or constants. It is called once, when the handler is made, and
   * records where the values are. So it cannot compute or decide with them: for that, write the handler as a program.
   *
   * A field is cast to the type of its column, from its text. A field that is null makes the column null; one that is
   * missing leaves the column to its default.
   */
  readonly columns: (of: Of) => Columns
  /**
   * The columns of a unique key. A row that has the same key is overwritten, and becomes the domain object. Answers with the
   * same key are written one after another, in their order.
   */
  readonly key?: ReadonlyArray<string>
  /** The columns that are overwritten. Default: all of `columns` but the key. */
  readonly overwrite?: ReadonlyArray<string>
}

/** Names an array of the answer. */
export type Each<E, Item> = (of: { readonly output: Fields<E> }) => Field<ReadonlyArray<Item> | null | undefined>

/** Names an array of an element. */
export type EachInner<Item, Inner> = (of: { readonly item: Fields<Item> }) => Field<
  ReadonlyArray<Inner> | null | undefined
>

/** What a declared handler is made of. `E` is the encoded side of the output's schema. */
export interface Declared<E, Item, Inner> extends Options, Table<RowFields<E, Item, Inner>> {
  /**
   * One row for each element of an array of the answer, in its order, instead of one for the answer. No row if it is empty,
   * null or missing. Written before `inner`, `columns` and `children`, which get its type from here.
   */
  readonly each?: Each<E, Item>
  /** With `each`: one row for each element of an array that each element has, instead of one for the element. */
  readonly inner?: EachInner<Item, Inner>
  /**
   * Tables whose rows belong to the rows of this one: `child` makes each. They are written after these, in the same
   * transaction, and are in the ledger after them.
   */
  readonly children?: (of: { readonly child: MakeChild<E, Item, Inner> }) => ReadonlyArray<Declaration>
}

/** What a row of a child can be made of. */
export interface ChildFields<E, Item, Inner> extends RowFields<E, Item, Inner> {
  /** The id of the row that it belongs to: that of the answer, or of the same element where the parent has `each`. */
  readonly parent: Field<string>
}

/** A child of a row for each answer. */
export interface ChildOfAnswer<E, Item, Inner> extends Table<ChildFields<E, Item, Inner>> {
  /** One row for each element of an array of the answer. */
  readonly each?: Each<E, Item>
  /** With `each`: one row for each element of an array that each element has. */
  readonly inner?: EachInner<Item, Inner>
}

/** A child of a row for each element. Its rows are of the same element. */
export interface ChildOfItem<E, Item, Inner> extends Table<ChildFields<E, Item, Inner>> {
  /** One row for each element of an array that the element has, instead of one for the element. */
  readonly inner?: EachInner<Item, Inner>
}

/** Declares a child. What it can be made of depends on its parent. */
export type MakeChild<E, Item, Inner> = [Inner] extends [never]
  ? [Item] extends [never]
    ? <ChildItem = never, ChildInner = never>(child: ChildOfAnswer<E, ChildItem, ChildInner>) => Declaration
  : <ChildInner = never>(child: ChildOfItem<E, Item, ChildInner>) => Declaration
  : Mistake<"rows with inner have no children">

/** A declared handler, as a group takes it. */
export interface Definition<A> extends Options {
  /** The declaration as data. */
  readonly declaration: Declaration
  /** Writes the rows by the store of the running drain. */
  readonly persistMany: PersistMany<A>
}

const mustNotCompute = (path: ReadonlyArray<string>): never => {
  throw new Error(
    `columns computes with ${path.join(".")}: it records where values are, once and without an answer. ` +
      `Name the field alone, or write the handler as a program`
  )
}

// Each access makes the path longer. The types allow only paths that the schema has.
const fieldsOf = (of: FieldSource["of"], path: ReadonlyArray<string> = []): any =>
  new Proxy({}, {
    get: (_, key) => {
      if (key === SourceId) return { _tag: "Field", of, path } satisfies Source
      return typeof key === "string" ? fieldsOf(of, [...path, key]) : mustNotCompute([of, ...path])
    },
    // spread, Object.keys, `in`
    ownKeys: () => mustNotCompute([of, ...path]),
    has: () => mustNotCompute([of, ...path])
  })

const field = <A>(source: Source): Field<A> => ({ [SourceId]: source })

const recordedCall = {
  ...Object.fromEntries(callFields.map((name) => [name, field({ _tag: "Call", field: name })])),
  context: (key: string) => field({ _tag: "Context", key, isRequired: true }),
  optionalContext: (key: string) => field({ _tag: "Context", key, isRequired: false })
  // `callFields` lists the other members
} as CallFields

/** Records where the values of a row are. The types say which of these a declaration has. */
const row = {
  output: fieldsOf("output"),
  call: recordedCall,
  item: fieldsOf("item"),
  place: field({ _tag: "Place" }),
  inner: fieldsOf("inner"),
  innerPlace: field({ _tag: "InnerPlace" })
}

const sourceOf = (value: unknown): Source | undefined => {
  if (Predicate.isObject(value)) return (value as Partial<Field<unknown>>)[SourceId]
  return value === null || ["string", "number", "boolean"].includes(typeof value)
    ? { _tag: "Constant", value: value as Constant }
    : undefined
}

/** A declaration as it is written, without its types: `Declared` or one of the children's. */
interface Written extends Table<any> {
  readonly each?: (of: any) => Field<unknown>
  readonly inner?: (of: any) => Field<unknown>
  readonly children?: (of: any) => ReadonlyArray<Declaration>
}

/** What a declaration needs of its output, whatever the output's types. */
type Answer = Pick<Any, "identity" | "schema">

const declarationOf = (output: Answer, written: Written, parent?: Declaration): Declaration => {
  const { children, columns, each, id = "id", inner, key = [], object, table } = written
  const whose = parent === undefined ? "" : `, its child ${quote(String(table))}`
  const wrong = (problem: string) => new Error(`the declared handler of ${output.identity}${whose}: ${problem}`)
  const arrayOf = (name: string, array: Field<unknown> | undefined) => {
    if (array === undefined) return undefined
    const source = sourceOf(array)
    if (source?._tag !== "Field") throw wrong(`${name} names no field`)
    return source
  }
  if (each !== undefined && parent?.each !== undefined) {
    throw wrong("its rows are of the elements of its parent's each: name an array within them with inner")
  }
  if (inner !== undefined && children !== undefined) throw wrong("rows with inner have no children")
  if (parent !== undefined && children !== undefined) {
    throw wrong("a child has no children of its own: for three levels write a program")
  }
  const of = parent?.each === undefined ? "output" : "item"
  const recorded = parent === undefined ? row : { ...row, parent: field<string>({ _tag: "Parent", of }) }
  const given = Object.entries(columns(recorded)).map(([name, value]) => {
    const source = sourceOf(value)
    if (source === undefined) throw wrong(`column ${quote(name)} is neither a field nor a constant`)
    return { name, source }
  })
  const own: Declaration = {
    output: output.identity,
    table,
    object,
    id,
    each: parent?.each ?? arrayOf("each", each?.({ output: row.output })),
    inner: arrayOf("inner", inner?.({ item: row.item })),
    columns: given,
    key,
    overwrite: written.overwrite ??
      (key.length === 0 ? [] : given.map(({ name }) => name).filter((name) => !key.includes(name))),
    children: []
  }
  const problem = declarationProblem(own, output.schema)
  if (problem !== undefined) throw wrong(problem)
  return children === undefined
    ? own
    : { ...own, children: children({ child: (child: Written) => declarationOf(output, child, own) }) }
}

const contextOf = Effect.fnUntraced(function*(declaration: Declaration, call: HandlerInput<unknown>["call"]) {
  const context: Record<string, Schema.Json> = {}
  for (const { source } of tablesOf(declaration).flatMap(({ columns }) => columns)) {
    if (source._tag !== "Context") continue
    const { isRequired, key } = source
    if (isRequired) context[key] = yield* call.context(key)
    else if (!Object.hasOwn(context, key)) {
      // JSON has no undefined, so this fails only where the key is missing
      const value = yield* Effect.option(call.contextAs(key, Schema.Json))
      if (value._tag === "Some") context[key] = value.value
    }
  }
  return context
})

const noDrain = "a declared handler is carried out by the store of a drain: run it by one, for example over MemoryStore"

/**
 * Declares a handler that writes rows of a table, and of tables that belong to it. Throws an error if the declaration
 * contradicts itself, or names a field that the answer cannot have. Whether it fits the tables is checked in the database,
 * before an attempt is charged.
 *
 * ```ts
 * class LabOrder extends Output.make("schemas.clinic.ward.lab-order", {
 *   schema: Schema.Struct({ patient: Schema.String, items: Schema.Array(Schema.Struct({ name: Schema.String })) })
 * }) {}
 *
 * // a row for each item
 * const items = TableHandler.make(LabOrder, {
 *   table: "ward.lab_item",
 *   object: "ward.LabItem",
 *   each: ({ output }) => output.items,
 *   columns: ({ call, item, place }) => ({ call_id: call.callId, place, name: item.name, urgent: false })
 * })
 *
 * // one row for each patient, overwritten by later orders
 * const latest = TableHandler.make(LabOrder, {
 *   table: "ward.latest_order",
 *   object: "ward.LatestOrder",
 *   columns: ({ call, output }) => ({ patient: output.patient, call_id: call.callId }),
 *   key: ["patient"]
 * })
 *
 * // a row for the order, and one for each item, which has the order's id
 * const both = TableHandler.make(LabOrder, {
 *   table: "ward.lab_order",
 *   object: "ward.LabOrder",
 *   columns: ({ output }) => ({ patient: output.patient }),
 *   children: ({ child }) => [
 *     child({
 *       table: "ward.lab_item",
 *       object: "ward.LabItem",
 *       each: ({ output }) => output.items,
 *       columns: ({ item, parent, place }) => ({ order_id: parent, place, name: item.name })
 *     })
 *   ]
 * })
 * ```
 */
export const make = <const Id extends string, S extends Schema.Codec<any, any>, Item = never, Inner = never>(
  output: Output<Id, S>,
  declared: Declared<S["Encoded"], Item, Inner>
): Definition<S["Type"]> => {
  const declaration = declarationOf(output, declared)
  const {
    children: _children,
    columns: _columns,
    each: _each,
    id: _id,
    inner: _inner,
    key: _key,
    object: _object,
    overwrite: _over,
    table: _table,
    ...options
  } = declared
  const takesContext = tablesOf(declaration).some(({ columns }) =>
    columns.some(({ source }) => source._tag === "Context")
  )
  // no generator: it runs for each answer
  const givenOf = ({ call, output: value }: HandlerInput<S["Type"]>): Effect.Effect<Given, unknown> => {
    const withContext = (context: Given["context"]) =>
      Effect.map(output.encode(value), ({ data }): Given => ({ call, context, data }))
    return takesContext ? Effect.flatMap(contextOf(declaration, call), withContext) : withContext({})
  }
  return {
    ...options,
    declaration,
    persistMany: Effect.fnUntraced(function*(inputs): Effect.fn.Return<ReadonlyArray<Created>, unknown> {
      const insert = yield* CurrentInsert
      if (insert === undefined) return yield* Effect.die(new Error(noDrain))
      return yield* insert(declaration, yield* Effect.forEach(inputs, givenOf))
    })
  }
}
