/**
 * What a doctor looks at, what it finds, and what it advises. Only catalogs and indexed reads: a busy database does not
 * notice.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as Settings from "../Settings.ts"
import * as Migrations from "../store/Migrations.ts"
import * as ask from "../store/pg/doctor.ts"
import { shown } from "../store/pg/tables.ts"
import { examineWork } from "./examineWork.ts"
import { attention, broken, type Finding, type Limits, ok, type Patient, usualLimits } from "./finding.ts"
import * as print from "./print.ts"

const server = Effect.fnUntraced(function*({ limits, schema, sql }: Patient) {
  const [vitals] = yield* ask.vitals(sql, schema)
  if (vitals === undefined) return { findings: [], tables: false }
  const version = Math.floor(vitals.version / 10_000)
  const difference = Math.round(Math.abs((yield* Clock.currentTimeMillis) - vitals.clockMillis))
  const findings = [
    version >= 15
      ? ok("server", `Postgres ${version}`)
      : broken("server", `Postgres ${version}`, "use Postgres 15 or later"),
    difference <= limits.clockMillis
      ? ok("clock", `${difference} ms from this machine's`)
      : attention(
        "clock",
        `${print.ago(difference)} from this machine's`,
        "harmless to Sluice, not to people: set the clocks"
      ),
    vitals.tables
      ? ok("tables", `there, in schema ${schema}`)
      : broken("tables", "not there", "run `sluice migrate`; or is SLUICE_SCHEMA another?")
  ]
  return { findings, tables: vitals.tables }
})

const pooler = Effect.fnUntraced(function*({ notify, sql }: Patient) {
  if (!(yield* ask.isPooled(sql))) return ok("pooler", "none in transaction mode")
  return notify
    ? attention(
      "pooler",
      "one in transaction mode: nothing can be heard through it",
      "set SLUICE_NOTIFY=false, and prepare: false in your programs' clients"
    )
    : ok("pooler", "one in transaction mode, and SLUICE_NOTIFY is false")
})

const migrations = Effect.fnUntraced(function*(all: ReadonlyArray<Migrations.Migration>) {
  const missing = yield* Effect.orElseSucceed(Migrations.missing, () => all)
  return missing.length === 0
    ? ok("migrations", "current")
    : broken("migrations", `${missing.length} missing`, "run `sluice migrate`")
})

/** The indexes there must be, by name, and how each is made: the migrations say so. */
const expectedIndexes = (all: ReadonlyArray<Migrations.Migration>, schema: string): ReadonlyMap<string, string> => {
  const statements = all.flatMap((migration) => migration.statements)
  const dropped = new Set(statements.map((statement) => /^drop index .*\.(\w+)$/.exec(statement)?.[1]))
  return new Map(
    statements.flatMap((statement): ReadonlyArray<readonly [string, string]> => {
      const table = /^create table if not exists \S+\.(\w+)/.exec(statement)?.[1]
      if (table !== undefined && /\bprimary key\b/.test(statement)) {
        return [[`${table}_pkey`, `restore the primary key of ${shown(schema)}.${table}`]]
      }
      const index = /^create index (?:concurrently )?if not exists (\w+)/.exec(statement)?.[1]
      return index === undefined || dropped.has(index)
        ? []
        : [[index, statement.replaceAll(/\s+/g, " ").replace(/^create index(?! conc)/, "create index concurrently")]]
    })
  )
}

const indexes = Effect.fnUntraced(function*({ schema, sql }: Patient, all: ReadonlyArray<Migrations.Migration>) {
  const there = new Map((yield* ask.indexes(sql, schema)).map(({ name, valid }) => [name, valid]))
  const missing = [...expectedIndexes(all, schema)].filter(([name]) => !there.has(name))
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
  const [snapshot] = yield* ask.snapshots(sql)
  const findings: Array<Finding> = []
  if (queue !== undefined) {
    const found = `${queue.dead} dead rows beside ${queue.live} live ones in the queue`
    const size = `the queue's indexes take ${Math.round(queue.indexes / 1000)} kB`
    findings.push(
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
    )
  }
  findings.push(
    snapshot === undefined || snapshot.seconds < limits.snapshotSeconds
      ? ok("snapshots", "none is held for long")
      : attention(
        "snapshots",
        `session ${snapshot.pid} (${snapshot.application}, ${snapshot.state}) holds one for ${
          print.ago(snapshot.seconds * 1000)
        }`,
        `it keeps vacuum from cleaning and events from being read: end it, select pg_terminate_backend(${snapshot.pid})`
      )
  )
  return findings
})

/** Looks at everything, as far as it can. `alone`: the database has one session only, so there is no pooler. */
export const examine = Effect.fnUntraced(function*({ alone, limits = usualLimits }: {
  readonly alone: boolean
  readonly limits?: Limits
}) {
  const sql = yield* SqlClient.SqlClient
  const { deadBlocksKey, notify, schema } = yield* Settings.load
  const patient: Patient = { sql, schema, notify, deadBlocksKey, limits }
  const { findings, tables } = yield* server(patient)
  const all = yield* Migrations.list(schema)
  return [
    ...findings,
    ...alone ? [] : [yield* pooler(patient)],
    ...tables
      ? [
        yield* migrations(all),
        yield* indexes(patient, all),
        ...yield* vacuum(patient),
        ...yield* examineWork(patient)
      ]
      : []
  ]
})
