/**
 * Mates for a rehearsal: chunks that share the batches of an application's handlers and use the transaction as other
 * handlers may. They write no rows.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import type { Created, Handler, HandlerInput } from "../Handler.ts"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import type { ServiceCall } from "../ServiceCall.ts"
import { MemoryDatabase } from "../store/MemoryDatabase.ts"

const prefix = "mate-"

/** Two mates for each call, recorded beside it. Their payload is the call's, which the handler's output decodes. */
export const withMates = (calls: ReadonlyArray<ServiceCall>): ReadonlyArray<ServiceCall> =>
  calls.flatMap((call, index) => {
    const mate = (n: number): ServiceCall => ({
      ...call,
      // short enough for an id, and distinct from the calls' ids
      callId: `${prefix}${index}-${n}`,
      correlationId: `${prefix}${index}-${n}`
    })
    return [mate(1), call, mate(2)]
  })

const isMate = ({ call }: HandlerInput<unknown>): boolean => call.callId.startsWith(prefix)

/** The effect of a mate: it rolls back a savepoint, and leaves settings behind. */
const meddle = (services: Context.Context<never>): Effect.Effect<void> => {
  const sql = Context.getOption(services, SqlClient.SqlClient)
  const db = Context.getOption(services, MemoryDatabase)
  if (Option.isSome(sql)) {
    const { value: client } = sql
    const tried = client.withTransaction(Effect.andThen(client`select 1`, Effect.fail("rolled back")))
    return Effect.ignore(Effect.andThen(
      Effect.ignore(tried),
      client`select pg_catalog.set_config('app.tenant', 'mate', true), pg_catalog.set_config('timezone', 'Pacific/Kiritimati', true),
        pg_catalog.set_config('datestyle', 'German', true)`
    ))
  }
  return Option.isSome(db) ? Effect.ignore(db.value.transaction(Effect.fail("rolled back"))) : Effect.void
}

const besideMates = (handler: Handler): Handler => {
  const { run } = handler
  const meddling = meddle(handler.services)
  if (run._tag === "One") {
    const persist = (input: HandlerInput<unknown>) => isMate(input) ? Effect.as(meddling, []) : run.persist(input)
    return { ...handler, run: { _tag: "One", persist } }
  }
  const persistMany = Effect.fnUntraced(function*(inputs: ReadonlyArray<HandlerInput<unknown>>) {
    const own = inputs.filter((input) => !isMate(input))
    if (own.length < inputs.length) yield* meddling
    const created = (yield* run.persistMany(own)).values()
    return inputs.map((input): Created => isMate(input) ? [] : created.next().value)
  })
  return { ...handler, run: { _tag: "Many", persistMany } }
}

/** A registry whose handlers have mates in their batches. */
export const registryWithMates = Effect.map(HandlerRegistry, (registry) => {
  const wrapped = new Map(registry.list.map((handler) => [handler, besideMates(handler)]))
  const find = (namespace: string, schemaIdentity: string) => {
    const handler = registry.find(namespace, schemaIdentity)
    return handler === undefined ? undefined : wrapped.get(handler)
  }
  return HandlerRegistry.of({
    ...registry,
    list: [...wrapped.values()],
    find,
    resolve: (namespace, schemaIdentity) =>
      Effect.map(registry.resolve(namespace, schemaIdentity), (handler) => wrapped.get(handler) ?? handler)
  })
})
