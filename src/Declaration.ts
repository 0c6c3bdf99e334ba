/**
 * A declared handler as data: which table, and where each column's value comes from. `TableHandler` makes declarations, and
 * a store carries them out.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { DomainObject } from "./DomainObject.ts"

/** The facts of a call that a column may take. */
export const callFields = [
  "callId",
  "namespace",
  "service",
  "correlationId",
  "part",
  "orderingKey",
  "finishedAt"
] as const

/** The name of a fact of a call. */
export type CallField = typeof callFields[number]

/** The value of a column that is the same in each row. */
export type Constant = string | number | boolean | null

/** Where the value of a column comes from. */
export type Source =
  /** A field of the answer's JSON, of the element that the row is made of, or of the inner element. */
  | { readonly _tag: "Field"; readonly of: "output" | "item" | "inner"; readonly path: ReadonlyArray<string> }
  /** A fact of the call. */
  | { readonly _tag: "Call"; readonly field: CallField }
  /** A value of the call's context. A required one is a text. */
  | { readonly _tag: "Context"; readonly key: string; readonly isRequired: boolean }
  /** The place of the element in its array, from 1. */
  | { readonly _tag: "Place" }
  /** The place of the inner element in its array, from 1. */
  | { readonly _tag: "InnerPlace" }
  /** The id of the parent: the row of the answer, or of the element that this row is of. Only in a child. */
  | { readonly _tag: "Parent"; readonly of: "output" | "item" }
  | { readonly _tag: "Constant"; readonly value: Constant }

/** A field of the answer's JSON. */
export type FieldSource = Extract<Source, { readonly _tag: "Field" }>

/** A declaration. */
export interface Declaration {
  /** The identity of the output that it is for. */
  readonly output: string
  /** The table, as SQL names it. */
  readonly table: string
  /** The `type` of the rows as domain objects. */
  readonly object: string
  /** The column whose value, as text, is the `id` of the row as a domain object. */
  readonly id: string
  /** One row for each element of this array; without it, one row for the answer. */
  readonly each: FieldSource | undefined
  /** With `each`: one row for each element of this array within each element of that. */
  readonly inner: FieldSource | undefined
  /** The columns that get a value. */
  readonly columns: ReadonlyArray<{ readonly name: string; readonly source: Source }>
  /** The columns of the unique key by which a row that exists is found and overwritten. Empty: each row is new. */
  readonly key: ReadonlyArray<string>
  /** The columns that are overwritten in such a row. */
  readonly overwrite: ReadonlyArray<string>
  /**
   * The tables whose rows belong to the rows of this one, and are written after them. A child has no children, and its
   * `each` is that of its parent, if the parent has one.
   */
  readonly children: ReadonlyArray<Declaration>
}

/** The tables of a declaration, the parent's first. */
export const tablesOf = (declaration: Declaration): readonly [Declaration, ...ReadonlyArray<Declaration>] => [
  declaration,
  ...declaration.children
]

/** The values that the rows of one answer are made of. */
export interface Given {
  /** Facts of the call. */
  readonly call: {
    readonly callId: string
    readonly namespace: string
    readonly service: string
    readonly correlationId: string
    readonly part: string
    readonly orderingKey: string | undefined
    readonly finishedAt: DateTime.Utc
  }
  /** The values of the context that the declaration names. */
  readonly context: { readonly [key: string]: Schema.Json }
  /** The answer, encoded by the present version of its schema. */
  readonly data: Schema.Json
}

/**
 * The table, as it is in this database, does not fit the declaration, or this role has no right to write it. No answer can
 * be persisted until that is fixed: no attempt is charged, and the chunks are parked.
 */
export class TableUnfit extends Schema.TaggedError<TableUnfit>()("TableUnfit", {
  table: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `table ${this.table} does not fit its declaration: ${this.reason}`
  }
}

/**
 * Another session holds a lock on the table and has kept writers waiting, for example by `alter table` in a transaction that
 * stays open. Nothing was written and no attempt is charged: the chunks are given back, and tried again soon.
 */
export class TableLocked extends Schema.TaggedError<TableLocked>()("TableLocked", {
  table: Schema.String
}) {
  override get message() {
    return `another session holds a lock on table ${this.table}`
  }
}

/** The table took a different number of rows than it was given: a trigger leaves some out. Nothing was written. */
export class RowsDiffer extends Schema.TaggedError<RowsDiffer>()("RowsDiffer", {
  table: Schema.String,
  declared: Schema.Int,
  written: Schema.Int
}) {
  override get message() {
    return `table ${this.table} took ${this.written} of ${this.declared} rows: a trigger leaves rows out, ` +
      `so which row is whose is unknown. Write this handler as a program`
  }
}

/**
 * Writes the rows of these answers, in their order, and those of the children after them. Returns the rows of each answer:
 * those of the declaration's own table in the order of its elements, then those of each child.
 */
export type Insert = (
  declaration: Declaration,
  given: ReadonlyArray<Given>
) => Effect.Effect<ReadonlyArray<ReadonlyArray<DomainObject>>, unknown>

/** @internal How the store of the running drain writes rows, in the transaction of the batch. */
export const CurrentInsert = Context.Reference<Insert | undefined>("effect-sluice/Declaration/CurrentInsert", {
  defaultValue: () => undefined
})
