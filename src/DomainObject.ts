/**
 * A domain object is a row of the application, named by `(type, id)`, both text: `chatlab.Message` and a UUID, a
 * number printed, a slug. Handlers return the ones they created; the ledger keeps them and `DomainEvents` tells of them.
 */
import * as Schema from "effect/Schema"
import { ChunkKey } from "./ServiceCall.ts"

/** The name of a row of the application. `type` is the application's word, `id` its key as text. */
export class DomainObject extends Schema.Class<DomainObject>("effect-sluice/DomainObject")({
  type: Schema.NonEmptyString,
  id: Schema.NonEmptyString
}) {}

/**
 * Names a row. Ids that are numbers or bigints are printed.
 *
 * ```ts
 * DomainObject.make("chatlab.Message", row.id)
 * ```
 */
export const make = (type: string, id: string | number | bigint): DomainObject =>
  new DomainObject({ type, id: String(id) })

/** A row of the application came to be. */
export class DomainObjectCreated extends Schema.Class<DomainObjectCreated>("effect-sluice/DomainObjectCreated")({
  object: DomainObject,
  /** The chunk it was made from. */
  key: ChunkKey,
  namespace: Schema.String,
  /** `namespace/short-name` of the handler that made it. */
  handler: Schema.String,
  service: Schema.String,
  correlationId: Schema.String,
  context: Schema.Record(Schema.String, Schema.Json)
}) {}
