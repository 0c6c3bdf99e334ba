/**
 * `sluice status`: how many chunks of each kind stand where, and which workers live.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { ChunkStore, KindStatus } from "../../ChunkStore.ts"
import { Pause, Pauses } from "../../Pauses.ts"
import * as Settings from "../../Settings.ts"
import * as ask from "../../store/pg/doctor.ts"
import * as Database from "../Database.ts"
import * as print from "../print.ts"

/** A worker that was seen lately. */
const WorkerStatus = Schema.Struct({
  id: Schema.String,
  /** Seconds since its last sign of life. */
  seen: Schema.Finite,
  serves: Schema.Array(Schema.String)
})

/** What `sluice status --json` prints. */
export const Status = Schema.Struct({
  kinds: Schema.Array(KindStatus),
  /** Persisted in the last minute, of all kinds; counted up to 100,000. */
  lastMinute: Schema.Int,
  workers: Schema.Array(WorkerStatus),
  pauses: Schema.Array(Pause)
})

const workersOf = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const { schema } = yield* Settings.load
  return yield* sql<typeof WorkerStatus.Type>`
    select id, round(extract(epoch from now() - beat_at))::float8 as seen,
      array(select s ->> 'namespace' || '/' || (s ->> 'schemaIdentity') from jsonb_array_elements(serves) s) as serves
    from ${sql(`${schema}.worker`)} order by id`
})

const shortOf = (identity: string): string => identity.slice(identity.lastIndexOf(".") + 1)

const look = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const { schema } = yield* Settings.load
  const kinds = yield* ChunkStore.use((store) => store.status)
  const [lately] = yield* ask.persistedLately(sql, schema, 100_000)
  return {
    kinds,
    lastMinute: lately?.count ?? 0,
    workers: yield* workersOf,
    pauses: yield* Pauses.use((pauses) => pauses.list)
  }
})

const show = Effect.fnUntraced(function*({ kinds, lastMinute, pauses, workers }: typeof Status.Type) {
  const now = yield* DateTime.now
  const head = ["kind", "pending", "due", "flying", "retry", "wait", "parked", "dead", "done", "oldest"]
  const rowsOf = (width: number) =>
    kinds.map((kind) => [
      print.clip(`${kind.namespace}/${shortOf(kind.schemaIdentity)}`, width),
      kind.pending,
      kind.due,
      kind.inFlight,
      kind.retrying,
      kind.waiting,
      kind.parked,
      kind.dead,
      kind.persisted,
      kind.oldest === null ? "" : print.ago(now.epochMilliseconds - kind.oldest.epochMilliseconds)
    ])
  // figures are not cut: names give way
  const wide = print.table(head, rowsOf(30))
  const excess = Math.max(0, ...wide.split("\n").map((line) => line.length - 80))
  yield* Console.log(kinds.length === 0 ? "nothing is recorded" : print.table(head, rowsOf(Math.max(10, 30 - excess))))
  yield* Console.log(`${lastMinute} persisted in the last minute`)
  for (const { namespace, reason, schemaIdentity } of pauses) {
    yield* Console.log(`paused: ${namespace}/${schemaIdentity}${reason === "" ? "" : `: ${reason}`}`)
  }
  for (const { id, seen, serves } of workers) {
    yield* Console.log(print.clip(`worker ${id}, seen ${seen} s ago, serves ${serves.map(shortOf).join(", ")}`, 80))
  }
  if (workers.length === 0) yield* Console.log("no worker was seen in the last five minutes")
})

/** The command. */
export const status = Command.make(
  "status",
  {
    ...Database.common,
    watch: Flag.Boolean("watch").pipe(Flag.withDescription("again every 2 seconds"), Flag.withDefault(false))
  },
  ({ json, url, watch }) => {
    const once = Effect.gen(function*() {
      const found = yield* look
      if (watch && process.stdout.isTTY) process.stdout.write("\u001b[2J\u001b[H")
      yield* json ? print.json(Status, found) : show(found)
    })
    return (watch ? Effect.forever(Effect.andThen(once, Effect.sleep("2 seconds"))) : once).pipe(
      Effect.provide(Database.storesToLookAt(url)),
      Database.told
    )
  }
).pipe(
  Command.withDescription("How many chunks stand where, and which workers live"),
  Command.withExamples([
    { command: "sluice status", description: "Look once" },
    { command: "sluice status --watch", description: "Keep looking" }
  ])
)
