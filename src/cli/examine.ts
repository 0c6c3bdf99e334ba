/**
 * The doctor's checks of the server and the tables. They read only catalogs and indexes: cheap enough for a busy database.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { word } from "../internal/escape.ts"
import { quote } from "../internal/quote.ts"
import * as Settings from "../Settings.ts"
import * as PgServer from "../store/PgServer.ts"
import { examineWork } from "./examineWork.ts"
import { attention, broken, type Finding, type Limits, ok, type Patient, usualLimits } from "./Finding.ts"
import { look } from "./look.ts"
import * as print from "./print.ts"

/** The most calls that `PgServer.unaccounted` examines. */
const mostExamined = 2000

type Around = NonNullable<PgServer.ServerFacts["around"]>

const readOnly = "nothing can be recorded or drained"

const serverIs = ({ readOnly: only, standby, version }: PgServer.ServerFacts): Finding =>
  version < 15
    ? broken("server", `Postgres ${version}`, "use Postgres 15 or later")
    : standby
    ? broken(
      "server",
      `Postgres ${version}, a standby, which is read-only: ${readOnly}`,
      "let the address lead to the primary; workers go on by themselves then"
    )
    : only
    ? broken(
      "server",
      `Postgres ${version}, read-only by default_transaction_read_only: ${readOnly}`,
      "is the disk full, or maintenance under way? If not, set it to off for this role and database"
    )
    : ok("server", `Postgres ${version}`)

const encodingIs = ({ encoding, encodingProblem: problem }: PgServer.ServerFacts): Finding =>
  problem === undefined ? ok("encoding", encoding) : broken("encoding", problem.found, problem.advice)

const pathIs = ({ pathProblem: problem }: PgServer.ServerFacts): Finding =>
  problem === undefined
    ? ok("search path", "Postgres' own functions and operators come first")
    : broken("search path", problem.found, problem.advice)

const clockIs = Effect.fnUntraced(function*(millis: number, { clockMillis }: Limits) {
  const difference = Math.round(Math.abs((yield* Clock.currentTimeMillis) - millis))
  return difference <= clockMillis
    ? ok("clock", `${difference} ms from this machine's`)
    : attention(
      "clock",
      `${print.ago(difference)} from this machine's`,
      "this does not affect Sluice, but confuses people: synchronize the clocks"
    )
})

/** Whether the tables exist, and whether foreign objects replace them or act on them: then no other check reads them. */
const tablesAre = ({ absent, strangers, tables }: Around, { schema }: Settings.Values) => {
  const findings = [
    absent !== undefined
      ? broken("tables", absent.found, absent.advice)
      : tables
      ? ok("tables", `there, in schema ${schema}`)
      : broken("tables", "not there", "run `sluice migrate`; if they are in another schema, set SLUICE_SCHEMA")
  ]
  if (strangers !== undefined) {
    return { findings: [...findings, broken("owners", strangers.found, strangers.advice)], usable: false }
  }
  return { findings: tables ? [...findings, ok("owners", "no foreign owners")] : findings, usable: tables }
}

const pooler = ({ server, settings }: Patient) =>
  Effect.map(server.isPooled, (pooled) => {
    if (!pooled) return ok("pooler", "none in transaction mode")
    const found = "one in transaction mode"
    return settings.listen && settings.listenUrl === undefined
      ? attention(
        "pooler",
        `${found}: hints from other processes do not arrive through it`,
        "set SLUICE_LISTEN_URL to the server's own address, or SLUICE_LISTEN=false; and prepare: false in your programs' clients"
      )
      : ok("pooler", `${found}; hints ${settings.listen ? "are received at SLUICE_LISTEN_URL" : "are turned off"}`)
  })

const migrations = Effect.fnUntraced(function*({ server }: Patient) {
  const missing = yield* server.missingMigrations
  if (missing > 0) return broken("migrations", `${missing} missing`, "run `sluice migrate`")
  const newer = yield* server.newerMigrations
  return newer === 0
    ? ok("migrations", "current")
    : attention(
      "migrations",
      `${print.counted(newer, "applied one is", "applied ones are")} of a newer version than this program`,
      "use the version of sluice that the workers have: this one does not know what was added"
    )
})

const sequencesAre = ({ server }: Patient) =>
  Effect.map(server.sequencesBehind, (behind) =>
    behind === undefined
      ? ok("sequences", "none is behind the tables")
      : broken("sequences", `${behind}: what is recorded fails`, "run `sluice migrate`, which corrects it"))

/** Calls that have lost all of their chunks: no other check finds them. A call that has lost some of them is not found. */
const answersAre = ({ server }: Patient) =>
  Effect.map(server.unaccounted, (found): Finding => {
    const { callId, count, examined } = found ?? { callId: null, count: 0, examined: 0 }
    const all = examined < mostExamined ? "" : `, of the oldest and the newest ${mostExamined / 2} calls`
    return count === 0
      ? ok("answers", `each is queued, persisted or dead${all}`)
      : attention(
        "answers",
        `calls without a queued, persisted or dead answer: ${count}${all}, for example ${word(callId ?? "")}`,
        "was the database restored in part? Restore the rows of chunk_queue, persisted_chunk and dead_letter as well: " +
          "without them these answers are never persisted. If the calls' dead letters were discarded and pruned, nothing is missing"
      )
  })

/** A worker that may claim but not settle repeats its work forever. */
const rightsAre = ({ server }: Patient) =>
  Effect.map(server.rolesThatLack, (lacking) =>
    lacking.length === 0
      ? ok("rights", "no role that drains lacks one")
      : lacking.map(({ grants, objects, role }) =>
        attention(
          "rights",
          `role ${role} has some of a worker's rights, and lacks others on ${
            objects.map((object) => object === "" ? `schema ${server.schema}` : object).join(", ")
          }`,
          grants.join("; ")
        )
      ))

const indexes = ({ server }: Patient) =>
  Effect.map(server.indexes, ({ count, invalid, missing }) => {
    if (missing.length > 0) {
      const names = missing.map(({ name }) => name).join(", ")
      return broken("indexes", `missing: ${names}`, missing.map(({ statement }) => statement).join("; "))
    }
    return invalid.length === 0
      ? ok("indexes", `${count} there`)
      : broken(
        "indexes",
        `invalid: ${invalid.join(", ")}`,
        invalid.map((name) => `reindex index concurrently ${server.schema}.${name}`).join("; ")
      )
  })

const vacuum = Effect.fnUntraced(function*({ limits, server }: Patient) {
  const queue = yield* server.vacuum
  if (queue === undefined) return []
  const found = `${queue.dead} dead rows beside ${queue.live} live ones in the queue`
  const size = `the queue's indexes take ${Math.round(queue.indexes / 1000)} kB`
  return [
    queue.dead > limits.deadRows && queue.dead > 2 * queue.live
      ? attention(
        "autovacuum",
        `${found}; last cleaned ${queue.last === null ? "never" : `${print.ago(queue.last * 1000)} ago`}`,
        `autovacuum is behind: look for a held snapshot, then run vacuum ${server.schema}.chunk_queue; if it stays behind, raise autovacuum_vacuum_cost_limit`
      )
      : ok("autovacuum", found),
    queue.indexes > limits.indexBytes && queue.indexes > 4 * queue.heap
      ? attention("bloat", size, `reindex table concurrently ${server.schema}.chunk_queue`)
      : ok("bloat", size)
  ]
})

const harm = "it keeps vacuum from cleaning"
const harmToEvents = `${harm} and events from being read`

const heldBySession = Effect.fnUntraced(function*({ limits, server }: Patient) {
  const snapshot = yield* server.oldestSession
  if (snapshot === undefined || snapshot.seconds < limits.snapshotSeconds) return []
  const { application, pid, seconds, state } = snapshot
  return [attention(
    "snapshots",
    `session ${pid} (${application}, ${state}) holds one for ${print.ago(seconds * 1000)}`,
    `${harmToEvents}: end it, select pg_terminate_backend(${pid})`
  )]
})

const heldByPrepared = Effect.fnUntraced(function*({ limits, server }: Patient) {
  const prepared = yield* server.oldestPrepared
  if (prepared === undefined || prepared.seconds < limits.snapshotSeconds) return []
  const { database, gid, seconds } = prepared
  return [attention(
    "snapshots",
    `transaction ${quote(gid)} of database ${database} has been prepared for ${
      print.ago(seconds * 1000)
    }, and is not over`,
    `${harmToEvents}: commit or roll it back there, rollback prepared '${gid.replaceAll("'", "''")}'`
  )]
})

const heldByReplica = Effect.fnUntraced(function*({ limits, server }: Patient) {
  const replica = yield* server.oldestReplica
  if (replica === undefined) return []
  const { active, age, application, slot } = replica
  if (active && age < limits.replicaTransactions) return []
  const ago = `${age} transactions ago`
  return [
    slot === null
      ? attention("snapshots", `standby ${application} holds one from ${ago}`, `${harm}: end the query that runs on it`)
      : active
      ? attention(
        "snapshots",
        `replication slot ${slot} holds one from ${ago}`,
        `${harm}: end the query on its standby`
      )
      : attention(
        "snapshots",
        `replication slot ${slot}, which has no reader, holds one from ${ago}`,
        `${harm}: let its standby come back, or drop it, select pg_drop_replication_slot('${slot}')`
      )
  ]
})

/** What holds back vacuum: sessions, prepared transactions and replicas. Reports it if the role cannot see all sessions. */
const snapshots = Effect.fnUntraced(function*(patient: Patient, seesAll: boolean) {
  const looks = [heldBySession, heldByPrepared, heldByReplica].map((held) => look(patient, "snapshots", held(patient)))
  const held = (yield* Effect.all(looks)).flat()
  if (!seesAll) {
    held.push(attention(
      "snapshots",
      `cannot see the sessions of other roles: role ${patient.role} lacks pg_read_all_stats`,
      `grant pg_read_all_stats to "${
        patient.role.replaceAll("\"", "\"\"")
      }"; else one that holds back vacuum goes unseen`
    ))
  }
  return held.length === 0 ? [ok("snapshots", "none is held for long")] : held
})

/** Runs all checks, as far as they can run. `alone`: the database has only one session, so there is no pooler. */
export const examine = Effect.fnUntraced(function*({ alone, limits = usualLimits }: {
  readonly alone: boolean
  readonly limits?: Limits
}) {
  const server = yield* PgServer.PgServer
  const settings = yield* Settings.Settings
  const facts = yield* server.facts
  const first = [serverIs(facts), encodingIs(facts), pathIs(facts)]
  if (facts.around === undefined) return first
  const patient: Patient = { server, role: facts.role, settings, limits }
  const tables = tablesAre(facts.around, settings)
  const around = [...first, yield* clockIs(facts.around.clockMillis, limits), ...tables.findings]
  const between = alone ? [] : yield* look(patient, "pooler", pooler(patient))
  if (!tables.usable) return [...around, ...between]
  return [
    ...around,
    ...between,
    ...yield* look(patient, "migrations", migrations(patient)),
    ...yield* look(patient, "sequences", sequencesAre(patient)),
    ...yield* look(patient, "answers", answersAre(patient)),
    ...yield* look(patient, "rights", rightsAre(patient)),
    ...yield* look(patient, "indexes", indexes(patient)),
    ...yield* look(patient, "autovacuum", vacuum(patient)),
    ...yield* snapshots(patient, facts.around.seesAll),
    ...yield* examineWork(patient)
  ]
}, Effect.provide(PgServer.layer))
