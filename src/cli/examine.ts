/**
 * What a doctor looks at, what it finds, and what it advises. Only catalogs and indexed reads: a busy database does not
 * notice.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { quote } from "../internal/quote.ts"
import * as Settings from "../Settings.ts"
import * as Migrations from "../store/Migrations.ts"
import * as ask from "../store/pg/doctor.ts"
import { drainersThatLack } from "../store/pg/lacking.ts"
import { isPooled } from "../store/pg/pooler.ts"
import { encodingProblem, type Facts, factsOf, pathProblem } from "../store/pg/preflight.ts"
import { workerGrant } from "../store/pg/rights.ts"
import * as sequences from "../store/pg/sequences.ts"
import { reserve, type Session } from "../store/pg/session.ts"
import { list, madeBy } from "../store/pg/statements.ts"
import * as strangers from "../store/pg/strangers.ts"
import { shown } from "../store/pg/tables.ts"
import { examineWork } from "./examineWork.ts"
import { attention, broken, type Finding, type Limits, ok, type Patient, usualLimits } from "./Finding.ts"
import { look } from "./look.ts"
import * as print from "./print.ts"

const readOnly = "nothing can be recorded or drained"

const serverIs = ({ readOnly: only, standby, version }: Facts): Finding =>
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
      "is the disk full, or a maintenance under way? Else set it to off for this role and database"
    )
    : ok("server", `Postgres ${version}`)

const encodingIs = (facts: Facts): Finding => {
  const problem = encodingProblem(facts)
  return problem === undefined ? ok("encoding", facts.encoding) : broken("encoding", problem.found, problem.advice)
}

const pathIs = (facts: Facts): Finding => {
  const problem = pathProblem(facts)
  return problem === undefined
    ? ok("search path", "Postgres' own functions and operators come first")
    : broken("search path", problem.found, problem.advice)
}

const clockIs = Effect.fnUntraced(function*(millis: number, { clockMillis }: Limits) {
  const difference = Math.round(Math.abs((yield* Clock.currentTimeMillis) - millis))
  return difference <= clockMillis
    ? ok("clock", `${difference} ms from this machine's`)
    : attention(
      "clock",
      `${print.ago(difference)} from this machine's`,
      "harmless to Sluice, not to people: set the clocks"
    )
})

/** Whether the tables are there, and are Sluice's own: those of others are not looked into. */
const tablesAre = Effect.fnUntraced(function*(session: Session, tables: boolean, { schema, settings }: Patient) {
  const found = strangers.unmeant(yield* strangers.find(session, schema, madeBy(list(schema))), settings.trusted)
  const findings = [
    tables
      ? ok("tables", `there, in schema ${schema}`)
      : broken("tables", "not there", "run `sluice migrate`; or is SLUICE_SCHEMA another?")
  ]
  if (found.length === 0) {
    return { findings: tables ? [...findings, ok("owners", "nobody else's")] : findings, usable: tables }
  }
  const told = strangers.describe(found)
  return { findings: [...findings, broken("owners", told.found, told.advice)], usable: false }
})

const pooler = Effect.fnUntraced(function*({ settings, sql }: Patient) {
  if (!(yield* isPooled(sql))) return ok("pooler", "none in transaction mode")
  const found = "one in transaction mode"
  return settings.listen && settings.listenUrl === undefined
    ? attention(
      "pooler",
      `${found}: hints of other processes cannot be heard through it`,
      "set SLUICE_LISTEN_URL to the server's own address, or SLUICE_LISTEN=false; and prepare: false in your programs' clients"
    )
    : ok("pooler", `${found}; hints are ${settings.listen ? "heard at SLUICE_LISTEN_URL" : "not to be heard"}`)
})

const migrations = Effect.map(Migrations.missing, (missing) =>
  missing.length === 0
    ? ok("migrations", "current")
    : broken("migrations", `${missing.length} missing`, "run `sluice migrate`"))

const sequencesAre = Effect.fnUntraced(function*({ schema, sql }: Patient) {
  const behind = yield* Effect.scoped(Effect.flatMap(reserve(sql), (session) => sequences.behind(session, schema)))
  return behind.length === 0
    ? ok("sequences", "none is behind the tables")
    : broken(
      "sequences",
      `${sequences.describe(behind)}: what is recorded fails`,
      "run `sluice migrate`, which puts it right"
    )
})

/** A worker that may claim and not settle does its work again and again. */
const rightsAre = Effect.fnUntraced(function*({ schema, sql }: Patient) {
  const lacking = yield* drainersThatLack(sql, schema)
  return lacking.length === 0
    ? ok("rights", "no role that drains lacks one")
    : lacking.map(({ objects, role }) =>
      attention(
        "rights",
        `role ${role} has some of a worker's rights, and lacks others on ${
          objects.map((object) => object === "" ? `schema ${shown(schema)}` : object).join(", ")
        }`,
        objects.map((object) => workerGrant(schema, role, object)).join("; ")
      )
    )
})

/** The indexes there must be, by name, and how each is made: the migrations say so. */
const expectedIndexes = (schema: string): ReadonlyMap<string, string> => {
  const all = list(schema)
  const keys = all.flatMap(({ statements }) => statements).flatMap(
    (statement): ReadonlyArray<readonly [string, string]> => {
      const table = /^create table if not exists \S+\.(\w+)/.exec(statement)?.[1]
      return table === undefined || !/\bprimary key\b/.test(statement)
        ? []
        : [[`${table}_pkey`, `restore the primary key of ${shown(schema)}.${table}`]]
    }
  )
  const made = [...madeBy(all).indexes].map(([index, statement]) =>
    [
      index,
      statement.replaceAll(/\s+/g, " ").replace(/^(create (?:unique )?index) (?!concurrently)/, "$1 concurrently ")
    ] as const
  )
  return new Map([...keys, ...made])
}

const indexes = Effect.fnUntraced(function*({ schema, sql }: Patient) {
  const there = new Map((yield* ask.indexes(sql, schema)).map(({ name, valid }) => [name, valid]))
  const missing = [...expectedIndexes(schema)].filter(([name]) => !there.has(name))
  if (missing.length > 0) {
    const names = missing.map(([name]) => name).join(", ")
    return broken("indexes", `missing: ${names}`, missing.map(([, statement]) => statement).join("; "))
  }
  const invalid = [...there].filter(([, valid]) => !valid).map(([name]) => name)
  return invalid.length === 0
    ? ok("indexes", `${there.size} there`)
    : broken(
      "indexes",
      `invalid: ${invalid.join(", ")}`,
      invalid.map((name) => `reindex index concurrently ${shown(schema)}.${name}`).join("; ")
    )
})

const vacuum = Effect.fnUntraced(function*({ limits, schema, sql }: Patient) {
  const [queue] = yield* ask.vacuum(sql, schema)
  if (queue === undefined) return []
  const found = `${queue.dead} dead rows beside ${queue.live} live ones in the queue`
  const size = `the queue's indexes take ${Math.round(queue.indexes / 1000)} kB`
  return [
    queue.dead > limits.deadRows && queue.dead > 2 * queue.live
      ? attention(
        "autovacuum",
        `${found}; last cleaned ${queue.last === null ? "never" : `${print.ago(queue.last * 1000)} ago`}`,
        `is behind: look for a held snapshot, then vacuum ${
          shown(schema)
        }.chunk_queue, and give autovacuum more to spend`
      )
      : ok("autovacuum", found),
    queue.indexes > limits.indexBytes && queue.indexes > 4 * queue.heap
      ? attention("bloat", size, `reindex table concurrently ${shown(schema)}.chunk_queue`)
      : ok("bloat", size)
  ]
})

const harm = "it keeps vacuum from cleaning"
const harmToEvents = `${harm} and events from being read`

const heldBySession = Effect.fnUntraced(function*({ limits, sql }: Patient) {
  const [snapshot] = yield* ask.snapshots(sql)
  if (snapshot === undefined || snapshot.seconds < limits.snapshotSeconds) return []
  const { application, pid, seconds, state } = snapshot
  return [attention(
    "snapshots",
    `session ${pid} (${application}, ${state}) holds one for ${print.ago(seconds * 1000)}`,
    `${harmToEvents}: end it, select pg_terminate_backend(${pid})`
  )]
})

const heldByPrepared = Effect.fnUntraced(function*({ limits, sql }: Patient) {
  const [prepared] = yield* ask.prepared(sql)
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

const heldByReplica = Effect.fnUntraced(function*({ limits, sql }: Patient) {
  const [replica] = yield* ask.replicas(sql)
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
        `replication slot ${slot}, which nobody reads, holds one from ${ago}`,
        `${harm}: let its standby come back, or drop it, select pg_drop_replication_slot('${slot}')`
      )
  ]
})

/** What holds back vacuum: every place is looked at, and it is said which cannot be seen. */
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

/** Looks at everything, as far as it can. `alone`: the database has one session only, so there is no pooler. */
export const examine = Effect.fnUntraced(function*({ alone, limits = usualLimits }: {
  readonly alone: boolean
  readonly limits?: Limits
}) {
  const sql = yield* SqlClient.SqlClient
  const settings = yield* Settings.Settings
  const { deadBlocksKey, schema } = settings
  const first = yield* Effect.scoped(Effect.gen(function*() {
    const session = yield* reserve(sql)
    const facts = yield* factsOf(session)
    // nothing else is asked in such a path: functions of others would answer
    if (pathProblem(facts) !== undefined) return [serverIs(facts), encodingIs(facts), pathIs(facts)]
    const [vitals] = yield* ask.vitals(session, schema)
    const patient: Patient = { sql, schema, role: facts.role, settings, deadBlocksKey, limits }
    const tables = yield* tablesAre(session, vitals?.tables === true, patient)
    return {
      facts,
      patient,
      seesAll: vitals?.seesAll === true,
      clock: yield* clockIs(vitals?.clockMillis ?? 0, limits),
      tables
    }
  }))
  if (Array.isArray(first)) return first
  const { clock, facts, patient, seesAll, tables } = first
  const around = [serverIs(facts), encodingIs(facts), pathIs(facts), clock, ...tables.findings]
  const between = alone ? [] : yield* look(patient, "pooler", pooler(patient))
  if (!tables.usable) return [...around, ...between]
  return [
    ...around,
    ...between,
    ...yield* look(patient, "migrations", migrations),
    ...yield* look(patient, "sequences", sequencesAre(patient)),
    ...yield* look(patient, "rights", rightsAre(patient)),
    ...yield* look(patient, "indexes", indexes(patient)),
    ...yield* look(patient, "autovacuum", vacuum(patient)),
    ...yield* snapshots(patient, seesAll),
    ...yield* examineWork(patient)
  ]
})
