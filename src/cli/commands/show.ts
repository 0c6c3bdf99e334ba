/**
 * `sluice show`: a call and all that became of it, or the call that made a row of the application.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { CallView, ChunkStore } from "../../ChunkStore.ts"
import { printKey } from "../../ServiceCall.ts"
import * as Settings from "../../Settings.ts"
import * as Database from "../Database.ts"
import * as print from "../print.ts"

/** The calls that made a row. The ledger keeps no index for this: it is read from end to end. */
const madeBy = Effect.fnUntraced(function*(what: string) {
  const sql = yield* SqlClient.SqlClient
  const { schema } = yield* Settings.load
  const colon = what.indexOf(":")
  if (colon < 1) return []
  const object = JSON.stringify([{ type: what.slice(0, colon), id: what.slice(colon + 1) }])
  const rows = yield* sql<{ call_id: string }>`
    select distinct call_id from ${sql(`${schema}.persisted_chunk`)} where objects @> ${object}::jsonb`
  return rows.map((row) => row.call_id)
})

const inWords = Effect.fnUntraced(function*(view: CallView) {
  yield* Console.log(`call ${view.callId} of ${view.namespace}, ${view.service}`)
  yield* Console.log(
    `  ${view.status}, recorded ${DateTime.formatIso(view.recordedAt)}, correlation ${view.correlationId}`
  )
  if (view.error !== null) yield* Console.log(`  error: ${print.clip(print.first(view.error), 68)}`)
  for (const chunk of view.chunks) {
    yield* Console.log(`  ${printKey(chunk.key).slice(view.callId.length).trim()}: ${chunk.state}`)
    if (chunk.attempts + chunk.crashes > 0) {
      yield* Console.log(`    ${chunk.attempts} failed attempts, ${chunk.crashes} crashes`)
    }
    if (chunk.ledger !== null) {
      yield* Console.log(`    by ${chunk.ledger.handler} at ${DateTime.formatIso(chunk.ledger.persistedAt)}`)
      for (const { id, type } of chunk.ledger.objects) yield* Console.log(`    ${type}:${id}`)
    }
    for (const { attempt, kind, message } of chunk.failures) {
      yield* Console.log(`    attempt ${attempt}, ${kind}: ${print.clip(print.first(message), 60)}`)
    }
    if (chunk.death !== null) {
      yield* Console.log(`    dead (${chunk.death.reason}): ${print.clip(print.first(chunk.death.message), 60)}`)
    }
  }
})

/** The command. */
export const show = Command.make(
  "show",
  {
    ...Database.common,
    what: Argument.String("what").pipe(Argument.withDescription("a call's id, or TYPE:ID of a row of the application"))
  },
  ({ json, url, what }) =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
      const call = yield* store.call(what)
      const ids = Option.isSome(call) ? [what] : yield* madeBy(what)
      const views = yield* Effect.forEach(ids, (id) => Effect.map(store.call(id), Option.toArray))
      const [first, ...more] = views.flat()
      if (first === undefined) {
        return yield* new Database.Failed({
          reason: `there is no call ${what}, and no row of that name was made by one`
        })
      }
      for (const view of [first, ...more]) yield* json ? print.json(CallView, view) : inWords(view)
    }).pipe(Effect.provide(Database.storesToLookAt(url)), Database.told)
).pipe(
  Command.withDescription("A call and all that became of it, or the call that made a row"),
  Command.withExamples([
    { command: "sluice show call-17", description: "By the call's id" },
    { command: "sluice show chatlab.Message:42", description: "By a row of the application" }
  ])
)
