/**
 * `sluice show`: a call and all that became of it, or the call that made a row of the application.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { CallView, ChunkStore, type ChunkView } from "../../ChunkStore.ts"
import { printKey } from "../../ServiceCall.ts"
import * as Settings from "../../Settings.ts"
import * as Database from "../Database.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
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

/** What `sluice show --json` prints. */
export const Shown = Schema.Struct({ calls: Schema.Array(CallView) })

/** What keeps a chunk from being persisted now. */
const holdUp = ({ behind, dueAt, leasedBy, leasedUntil, parkedFor, state }: ChunkView): string | undefined => {
  const time = (at: DateTime.Utc | null) => at === null ? "" : DateTime.formatIso(at)
  switch (state) {
    case "in-flight":
      return `held by worker ${leasedBy ?? ""} until ${time(leasedUntil)}, unless renewed`
    case "scheduled":
      return `not before ${time(dueAt)}`
    case "parked":
      return parkedFor === "paused" ? "paused; see `sluice status`" : "no worker that looked had a handler for it"
    case "waiting":
    case "pending":
      return behind === null ? undefined : `behind call ${behind} of its ordering key`
    default:
      return undefined
  }
}

const chunkInWords = Effect.fnUntraced(function*(callId: string, chunk: ChunkView) {
  const line = (text: string) => Console.log(`    ${print.clip(text, 76)}`)
  yield* Console.log(`  ${printKey(chunk.key).slice(callId.length).trim()}: ${chunk.state}`)
  const why = holdUp(chunk)
  if (why !== undefined) yield* line(why)
  if (chunk.attempts + chunk.crashes > 0) {
    yield* line(`${chunk.attempts} failed attempts, ${chunk.crashes} crashes`)
  }
  if (chunk.ledger !== null) {
    yield* line(`by ${chunk.ledger.handler} at ${DateTime.formatIso(chunk.ledger.persistedAt)}`)
    for (const { id, type } of chunk.ledger.objects) yield* Console.log(`    ${type}:${id}`)
  }
  for (const { attempt, kind, message } of chunk.failures) {
    yield* line(`attempt ${attempt}, ${kind}: ${print.first(message)}`)
  }
  if (chunk.death !== null) yield* line(`dead (${chunk.death.reason}): ${print.first(chunk.death.message)}`)
})

const inWords = Effect.fnUntraced(function*(view: CallView) {
  yield* Console.log(`call ${view.callId} of ${view.namespace}`)
  yield* Console.log(`  ${view.service}`)
  yield* Console.log(`  ${view.status}, recorded ${DateTime.formatIso(view.recordedAt)}`)
  if (view.correlationId !== view.callId) yield* Console.log(`  correlation ${print.clip(view.correlationId, 66)}`)
  const key = view.chunks.find((chunk) => chunk.orderingKey !== null)?.orderingKey
  if (key !== undefined) yield* Console.log(`  ordering key ${print.clip(key ?? "", 65)}`)
  if (Object.keys(view.context).length > 0) {
    yield* Console.log(`  context ${print.clip(JSON.stringify(view.context), 70)}`)
  }
  if (view.trace !== null) yield* Console.log(`  trace ${view.trace.traceId}, span ${view.trace.spanId}`)
  if (view.error !== null) yield* Console.log(`  error: ${print.clip(print.first(view.error), 68)}`)
  for (const chunk of view.chunks) yield* chunkInWords(view.callId, chunk)
})

/** The command. */
export const show = Command.make(
  "show",
  {
    ...options.common,
    what: Argument.String("what").pipe(Argument.withDescription("a call's id, or TYPE:ID of a row of the application"))
  },
  ({ url, what, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const store = yield* ChunkStore
      const call = yield* store.call(what)
      const ids = Option.isSome(call) ? [what] : yield* madeBy(what)
      const calls = (yield* Effect.forEach(ids, (id) => Effect.map(store.call(id), Option.toArray))).flat()
      if (calls.length === 0) {
        return yield* new Failed({ reason: `there is no call ${what}, and no row of that name was made by one` })
      }
      if (json) return yield* print.json(Shown, { calls })
      for (const view of calls) yield* inWords(view)
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription("A call and all that became of it, or the call that made a row"),
  Command.withExamples([
    { command: "sluice show call-17", description: "By the call's id" },
    { command: "sluice show chatlab.Message:42", description: "By a row of the application" }
  ])
)
