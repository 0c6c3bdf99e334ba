/**
 * The doctor on servers of its own: what holds back vacuum from outside any session it sees, what its role may not see, and
 * a standby.
 */
import { it } from "@effect/vitest"
import { Settings } from "effect-sluice"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { examine } from "../../src/cli/examine.ts"
import { usualLimits } from "../../src/cli/Finding.ts"
import { type Cluster, type ClusterOptions, startCluster } from "../support/cluster.ts"
import { asRole, client, runAt } from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

const server = (options: ClusterOptions) =>
  Effect.acquireRelease(
    Effect.promise(() => startCluster(options)),
    (cluster) => Effect.promise(() => cluster.remove())
  )

const examined = (url: string, limits: Partial<typeof usualLimits> = {}) =>
  examine({ alone: false, limits: { ...usualLimits, ...limits } }).pipe(
    Effect.provide(Layer.fresh(PgStore.layerUnchecked).pipe(Layer.provideMerge(Layer.fresh(client(url)))), {
      local: true
    })
  )
const found = (url: string, check: string, limits: Partial<typeof usualLimits> = {}) =>
  Effect.map(examined(url, limits), (findings) => findings.filter((one) => one.check === check))

const at = <A, E>(url: string, effect: Effect.Effect<A, E, SqlClient.SqlClient | Settings.Settings>) =>
  Effect.provide(effect, Layer.fresh(client(url)), { local: true })

/** A database on it with Sluice's tables. */
const ward = Effect.fnUntraced(function*(cluster: Cluster) {
  yield* runAt(cluster.url(), "create database ward")
  const url = cluster.url("ward")
  yield* at(url, Migrations.run)
  return url
})

describe("what holds back vacuum", () => {
  it.live(
    "a transaction that was prepared and forgotten is named, and how to end it works",
    () =>
      Effect.gen(function*() {
        const url = yield* ward(yield* server({ settings: { max_prepared_transactions: 5 } }))
        yield* at(
          url,
          Effect.gen(function*() {
            const sql = yield* SqlClient.SqlClient
            const connection = yield* sql.reserve
            for (const statement of ["begin", "create table bed (id int)", "prepare transaction 'the ward''s'"]) {
              yield* connection.executeUnprepared(statement, [], undefined)
            }
          }).pipe(Effect.scoped)
        )
        const [finding] = yield* found(url, "snapshots", { snapshotSeconds: -1 })
        expect(finding).toMatchObject({
          severity: "attention",
          found: expect.stringContaining("transaction \"the ward's\" of database ward")
        })
        yield* runAt(url, /rollback prepared .*$/.exec(finding?.advice ?? "")?.[0] ?? "")
        expect(yield* found(url, "snapshots", { snapshotSeconds: 60 })).toMatchObject([{ severity: "ok" }])
      }).pipe(Effect.scoped)
  )

  it.live(
    "a standby's query is named by its slot; and the slot, when the standby is gone",
    () =>
      Effect.gen(function*() {
        const primary = yield* server({})
        const url = yield* ward(primary)
        yield* runAt(url, "select slot_name::text from pg_create_physical_replication_slot('ward_standby', true)")
        const standby = yield* server({
          standbyOf: primary,
          settings: { primary_slot_name: "ward_standby", hot_standby_feedback: "on", wal_receiver_status_interval: 1 }
        })
        yield* at(
          standby.url("ward"),
          Effect.gen(function*() {
            const sql = yield* SqlClient.SqlClient
            const report = yield* sql.reserve
            yield* report.executeUnprepared("begin isolation level repeatable read", [], undefined)
            yield* report.executeUnprepared("select count(*) from sluice.chunk_queue", [], undefined)
            // as many as begin meanwhile
            for (let n = 0; n < 3; n++) yield* runAt(url, "create table bed (id int)", "drop table bed")
            const held = yield* untilIt(
              found(url, "snapshots", { replicaTransactions: 3 }),
              ([finding]) => finding?.severity === "attention"
            )
            expect(held[0]?.found).toMatch(/^replication slot ward_standby holds one from \d+ transactions ago$/)
          }).pipe(Effect.scoped)
        )
        expect(yield* found(url, "snapshots")).toMatchObject([{ severity: "ok" }])
        yield* Effect.promise(() => standby.crash())
        const [left] = yield* untilIt(found(url, "snapshots"), ([finding]) => finding?.severity === "attention")
        expect(left?.found).toMatch(/^replication slot ward_standby, which has no reader, holds one/)
        yield* runAt(url, /select pg_drop_replication_slot.*$/.exec(left?.advice ?? "")?.[0] ?? "")
        expect(yield* found(url, "snapshots")).toMatchObject([{ severity: "ok" }])
      }).pipe(Effect.scoped)
  )

  it.live(
    "by a session of another role is seen with pg_read_all_stats only; without, that is said",
    () =>
      Effect.gen(function*() {
        const url = yield* ward(yield* server({}))
        const { role, url: as } = yield* asRole(url, "clinic_app")
        yield* at(
          url,
          Effect.gen(function*() {
            const sql = yield* SqlClient.SqlClient
            const report = yield* sql.reserve
            yield* report.executeUnprepared("begin isolation level repeatable read", [], undefined)
            const [[pid] = []] = yield* report.executeValuesUnprepared("select pg_backend_pid()", [])
            expect(yield* found(as, "snapshots", { snapshotSeconds: -1 })).toEqual([{
              check: "snapshots",
              severity: "attention",
              found: `cannot see the sessions of other roles: role ${role} lacks pg_read_all_stats`,
              advice: expect.stringContaining(`grant pg_read_all_stats to "${role}"`)
            }])
            yield* runAt(url, `grant pg_read_all_stats to ${role}`)
            expect(yield* found(as, "snapshots", { snapshotSeconds: -1 })).toMatchObject([
              { severity: "attention", found: expect.stringContaining(`session ${String(pid)}`) }
            ])
          }).pipe(Effect.scoped)
        )
      }).pipe(Effect.scoped)
  )
})

describe("a standby", () => {
  it.live(
    "the doctor says that nothing can be recorded or drained, a program that it waits, migrate that it cannot",
    () =>
      Effect.gen(function*() {
        const primary = yield* server({})
        yield* ward(primary)
        const standby = yield* server({ standbyOf: primary })
        const through = standby.url("ward")
        expect(yield* found(through, "server")).toMatchObject([{
          severity: "broken",
          found: "Postgres 18, a standby, which is read-only: nothing can be recorded or drained"
        }])
        expect((yield* examined(through)).filter((one) => one.severity === "broken")).toHaveLength(1)

        const lines: Array<string> = []
        const log = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
        yield* Effect.scoped(
          Layer.build(Layer.fresh(PgStore.layer).pipe(Layer.provide(Layer.fresh(client(through))))).pipe(
            Effect.provide(log)
          )
        )
        expect(lines[0]).toMatch(/^the server is a standby, which is read-only/)
        const other = at(through, Effect.provide(Migrations.run, Settings.layer({ schema: "other" })))
        expect(yield* Effect.flip(other)).toMatchObject({ _tag: "DatabaseUnfit", problem: "read-only" })
      }).pipe(Effect.scoped)
  )

  it.live("distinguishes a database whose transactions are read-only by default", () =>
    Effect.gen(function*() {
      const url = yield* ward(yield* server({}))
      yield* runAt(url, "alter database ward set default_transaction_read_only = on")
      expect(yield* found(url, "server")).toMatchObject([{
        severity: "broken",
        found: expect.stringContaining("read-only by default_transaction_read_only")
      }])
    }).pipe(Effect.scoped))
})
