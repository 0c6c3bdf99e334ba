/** The outputs of the scenes about declared handlers. */
import * as Schema from "effect/Schema"
import * as Output from "../../Output.ts"

export class Note extends Output.make("schemas.clinic.ward.note", {
  version: 2,
  schema: Schema.Struct({ text: Schema.String }),
  upcasts: { 1: Output.upcast(Schema.Struct({ words: Schema.String }), ({ words }) => ({ text: words })) }
}) {}
export class Order extends Output.make("schemas.clinic.ward.order", {
  schema: Schema.Struct({ items: Schema.Array(Schema.Struct({ name: Schema.String })) })
}) {}
export class Sign extends Output.make("schemas.clinic.ward.sign", { schema: Schema.Struct({ text: Schema.String }) }) {}
/** Its handler is a program. */
export class Song extends Output.make("schemas.clinic.ward.song", { schema: Schema.Struct({ text: Schema.String }) }) {}
