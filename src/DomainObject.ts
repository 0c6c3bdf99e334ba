/**
 * The names of the application's rows. A domain object is a row, named by `(type, id)`, both text: `chatlab.Message`
 * and a UUID, a printed number, or a slug. Handlers return the ones they created; the ledger stores them and
 * `DomainEvents` publishes them.
 */
import * as Schema from "effect/Schema"
import { ChunkKey } from "./ServiceCall.ts"

/**
 * The name of a row of the application. The application chooses `type`; `id` is the row's key as text; neither is
 * empty.
 */
export const DomainObject = Schema.Struct({ type: Schema.NonEmptyString, id: Schema.NonEmptyString })
/** The name of a row of the application. */
export interface DomainObject extends Schema.Schema.Type<typeof DomainObject> {}

/**
 * Names a row. Numbers and bigints are printed as text. An empty name is refused when a handler returns it.
 *
 * ```ts
 * Effect.map(messages.insert(answer.text), (row) => DomainObject.make("chatlab.Message", row.id))
 * ```
 */
export const make = (type: string, id: string | number | bigint): DomainObject => ({ type, id: String(id) })

/** The most rows that one run of a handler may name. */
export const maxObjects = 50_000

/**
 * The most bytes of JSON that the names of these rows may hold together: 3 MiB, some 35,000 rows named by UUIDs.
 * Together with the largest context of a call it is still one message for a reader of the event log.
 */
export const maxObjectBytes = 3 * 1024 * 1024

/** The event that a handler created a row of the application. */
export const DomainObjectCreated = Schema.Struct({
  object: DomainObject,
  /** The chunk it was made from. */
  key: ChunkKey,
  namespace: Schema.String,
  /** `namespace/short-name` of the handler that created it. */
  handler: Schema.String,
  service: Schema.String,
  correlationId: Schema.String,
  context: Schema.Record(Schema.String, Schema.Json)
})
/** The event that a handler created a row of the application. */
export interface DomainObjectCreated extends Schema.Schema.Type<typeof DomainObjectCreated> {}
