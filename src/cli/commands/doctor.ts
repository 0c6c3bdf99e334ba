/**
 * `sluice doctor`: what is wrong, and what to do about it. Its exit status is 0 when all is well, 1 when something wants
 * attention, 2 when something is broken.
 */
import * as Command from "effect/cli/Command"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { EventLog } from "../../EventLog.ts"
import * as Settings from "../../Settings.ts"
import * as Migrations from "../../store/Migrations.ts"
import * as ask from "../../store/pg/doctor.ts"
import * as Database from "../Database.ts"
import * as print from "../print.ts"

const Severity = Schema.Literals(["ok", "attention", "broken"])

/** One thing that was looked at. */
export const Finding = Schema.Struct({
  check: Schema.String,
  severity: Severity,
  found: Schema.String,
  /** What to do; empty when all is well. */
  advice: Schema.String
})
/** What `sluice doctor --json` prints. */
export const Diagnosis = Schema.Struct({ severity: Severity, findings: Schema.Array(Finding) })

type Finding = typeof Finding.Type
const ok = (check: string, found: string): Finding => ({ check, severity: "ok", found, advice: "" })
const attention = (check: string, found: string, advice: string): Finding => ({
  check,
  severity: "attention",
  found,
  advice
})
const broken = (check: string, found: string, advice: string): Finding => ({ check, severity: "broken", found, advice })

// from when on it is worth a word
const limits = { clockMillis: 5000, ageSeconds: 300, snapshotSeconds: 300, deadRows: 100_000 }

const expectedIndexes = [
  "chunk_queue_pkey",
  "chunk_queue_ready",
  "chunk_queue_scheduled",
  "chunk_queue_parked",
  "chunk_queue_key",
  "chunk_queue_call",
  "persisted_chunk_pkey",
  "persisted_chunk_order",
  "dead_letter_pkey"
]

const server = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, schema: string) {
  const [first] = yield* ask.vitals(sql, schema)
  const [second] = yield* ask.vitals(sql, schema)
  if (first === undefined || second === undefined) return { findings: [], tables: false }
  const version = Math.floor(first.version / 10_000)
  const difference = Math.round(Math.abs((yield* Clock.currentTimeMillis) - Number(second.clockMillis)))
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
    first.tables
      ? ok("tables", `there, in schema ${schema}`)
      : broken("tables", "not there", "run `sluice migrate`")
  ]
  return { findings, tables: first.tables }
})

const migrations = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, schema: string) {
  const all = yield* Migrations.list(schema)
  const rows = yield* sql<{ migration_id: number }>`select migration_id from ${sql(`${schema}.migration`)}`.pipe(
    Effect.orElseSucceed(() => [])
  )
  const applied = new Set(rows.map((row) => row.migration_id))
  const missing = all.filter(({ id }) => !applied.has(id))
  return missing.length === 0
    ? ok("migrations", "current")
    : broken("migrations", `${missing.length} missing`, "run `sluice migrate`")
})

const tables = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, schema: string) {
  const there = new Map((yield* ask.indexes(sql, schema)).map((index) => [index.name, index.valid]))
  const missing = expectedIndexes.filter((name) => there.get(name) !== true)
  const [vacuum] = yield* ask.vacuum(sql, schema)
  const [snapshot] = yield* ask.snapshots(sql)
  const findings: Array<Finding> = [
    missing.length === 0
      ? ok("indexes", `${there.size} there`)
      : broken("indexes", `missing or invalid: ${missing.join(", ")}`, "create them as sql/0001_tables.sql does")
  ]
  if (vacuum !== undefined) {
    const found = `${vacuum.dead} dead rows beside ${vacuum.live} live ones in the queue`
    const bloated = vacuum.indexes > 256 * 1024 * 1024 && vacuum.indexes > 4 * vacuum.heap
    findings.push(
      vacuum.dead > limits.deadRows && vacuum.dead > 2 * vacuum.live
        ? attention("autovacuum", found, "is behind: look for a held snapshot, then give autovacuum more to spend")
        : ok("autovacuum", found),
      bloated
        ? attention(
          "bloat",
          `the queue's indexes take ${Math.round(vacuum.indexes / 1e6)} MB`,
          "reindex table concurrently"
        )
        : ok("bloat", `the queue's indexes take ${Math.round(vacuum.indexes / 1e3)} kB`)
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

const work = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, schema: string) {
  const [stale] = yield* ask.staleLeases(sql, schema)
  const [oldest] = yield* ask.oldestDue(sql, schema)
  const [alive] = yield* ask.workers(sql, schema)
  const [letters] = yield* ask.deadLetters(sql, schema)
  const parked = yield* ask.parkedKinds(sql, schema)
  const behind = (yield* EventLog.use((log) => log.list)).filter((one) => one.attempts > 0)
  const age = oldest?.seconds ?? 0
  const count = (n: number) => n >= 1000 ? "1000 or more" : String(n)
  return [
    (alive?.alive ?? 0) > 0
      ? ok("workers", `${alive?.alive} alive`)
      : attention("workers", "none is alive", "start one, unless the drain is run by hand"),
    age < limits.ageSeconds
      ? ok("age", age === 0 ? "nothing is due" : `the oldest due chunk has waited ${print.ago(age * 1000)}`)
      : attention(
        "age",
        `the oldest due chunk has waited ${print.ago(age * 1000)}`,
        "more workers, or see whether they fail"
      ),
    (stale?.count ?? 0) === 0
      ? ok("leases", "none ran out long ago")
      : attention(
        "leases",
        `${count(stale?.count ?? 0)} ran out over 5 minutes ago`,
        "no worker takes them up: start one"
      ),
    parked.length === 0
      ? ok("handlers", "every recorded kind has one, or none is parked")
      : attention(
        "handlers",
        `parked: ${parked.map((kind) => `${kind.namespace}/${kind.schema}`).join(", ")}`,
        "deploy a handler, or `sluice resume` what is paused; they go on by themselves"
      ),
    (letters?.count ?? 0) === 0
      ? ok("dead letters", "none")
      : attention(
        "dead letters",
        count(letters?.count ?? 0),
        "see `sluice dead list`; mend, then `sluice dead redrive`"
      ),
    behind.length === 0
      ? ok("subscriptions", "none fails")
      : attention(
        "subscriptions",
        behind.map((one) => `${one.name} failed ${one.attempts} times: ${print.clip(one.lastError ?? "", 40)}`).join(
          "; "
        ),
        "mend the subscriber; it goes on by itself"
      )
  ]
})

const examine = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const { schema } = yield* Settings.load
  const { findings, tables: there } = yield* server(sql, schema)
  if (!there) return findings
  return [
    ...findings,
    yield* migrations(sql, schema),
    ...yield* tables(sql, schema),
    ...yield* work(sql, schema)
  ]
})

const worst = (findings: ReadonlyArray<Finding>): typeof Severity.Type =>
  findings.some((one) => one.severity === "broken")
    ? "broken"
    : findings.some((one) => one.severity === "attention")
    ? "attention"
    : "ok"

/** The command. */
export const doctor = Command.make("doctor", Database.common, ({ json, url }) =>
  Effect.gen(function*() {
    const findings = yield* Effect.catch(examine, (error) => {
      const { reason } = Database.explain(error)
      return Effect.succeed([broken("server", reason, "is the address right, and the server up?")])
    })
    const severity = worst(findings)
    process.exitCode = { ok: 0, attention: 1, broken: 2 }[severity]
    if (json) return yield* print.json(Diagnosis, { severity, findings })
    const marks = { ok: "ok", attention: "!", broken: "X" }
    for (const { advice, check, found, severity } of findings) {
      yield* Console.log(`${marks[severity].padEnd(3)} ${check}: ${found}`)
      if (advice !== "") yield* Console.log(`    → ${advice}`)
    }
  }).pipe(Effect.provide(Database.storesAsTheyAre(url)), Database.told)).pipe(
    Command.withDescription("What is wrong, and what to do about it"),
    Command.withExamples([{ command: "sluice doctor --url postgres://…", description: "Exit status 0, 1 or 2" }])
  )
