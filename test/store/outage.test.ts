/**
 * An outage longer than a lease is nobody's crash: not when the server restarts, and not when workers are cut off from a
 * server that goes on. A worker that really died is counted all the same.
 */
import { it } from "@effect/vitest"
import { ChunkStore, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { call, giveBack, idsOf } from "../contract/operators/dialogues.ts"
import { startProxy } from "../faults/proxy.ts"
import { startCluster } from "../support/cluster.ts"
import * as Postgres from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

// what must be said before a lease is over is said within milliseconds, on a machine that is not too busy
const lease = Duration.seconds(4)
const ids = ["a", "b", "c", "d"]

/** A process of its own, on the database of this address. */
const processOn = (url: string, options: Parameters<typeof Postgres.client>[1] = {}) =>
  Layer.build(
    Layer.fresh(PgStore.layer).pipe(
      Layer.provide(Settings.layer({ notify: false, lease })),
      Layer.provideMerge(Layer.fresh(Postgres.client(url, options)))
    )
  )
type Process = Context.Context<ChunkStore.ChunkStore>
const storeOf = (process: Process) => Context.get(process, ChunkStore.ChunkStore)
const claimBy = (process: Process) => storeOf(process).claim({ worker: "w", limit: 100, maxBytes: 1e9, lease })
const takenBy = (process: Process) =>
  Effect.map(claimBy(process), ({ chunks }) => chunks.map(({ crashes, key }) => [key.callId, crashes]))
const speak = (process: Process, claim: Parameters<typeof giveBack>[0]) =>
  Effect.provideService(giveBack(claim), ChunkStore.ChunkStore, storeOf(process))

/** Until every lease of the claimed is over. By then their worker has asked in vain for something. */
const outlived = (url: string) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* untilIt(
      sql<{ over: boolean }>`select coalesce(bool_and(lease_until < now()), false) as over from sluice.chunk_queue`,
      ([row]) => row?.over === true
    )
  }).pipe(Effect.provide(Layer.fresh(Postgres.client(url))))

/** Asks until something is taken: the others had their time to speak. */
const nextTakenBy = (process: Process) => untilIt(takenBy(process), (taken) => taken.length > 0)

describe.each([15, 18] as const)("an outage longer than a lease, on Postgres %i", (version) => {
  const cluster = Effect.acquireRelease(
    Effect.promise(() => startCluster({ version, durable: true })),
    (cluster) => Effect.promise(() => cluster.remove())
  )

  it.live(
    "of the server: the workers that lived take up their chunks as before, and who died is counted",
    () =>
      Effect.gen(function*() {
        const { crash, restart, url } = yield* cluster
        const worker = yield* processOn(url())
        const other = yield* processOn(url())
        yield* storeOf(worker).record(ids.map((id) => call(id)))
        const claim = yield* claimBy(worker)
        expect(idsOf(claim.chunks)).toEqual(ids)
        // a claim does not wait for the disk, a renewal does
        yield* storeOf(worker).renew(claim.token, claim.chunks, lease)
        yield* Effect.promise(crash)
        for (const process of [worker, other]) {
          expect(yield* Effect.flip(claimBy(process))).toMatchObject({ transient: true })
        }
        yield* Effect.sleep(lease)
        yield* Effect.promise(restart)
        yield* outlived(url())
        // nobody takes the holder of an ended lease for dead before it could speak
        for (const process of [other, worker]) {
          expect(yield* Effect.retry(takenBy(process), { while: (error) => error.transient })).toEqual([])
        }
        // of one it does not know any more: as if that had died
        yield* speak(worker, { ...claim, chunks: claim.chunks.slice(1) })
        expect(yield* takenBy(worker)).toEqual([["b", 0], ["c", 0], ["d", 0]])
        expect(yield* nextTakenBy(other)).toEqual([["a", 1]])
      }).pipe(Effect.scoped)
  )

  it.live(
    "of the role's right to log in, as when its password is changed: nobody is taken for dead",
    () =>
      Effect.gen(function*() {
        const { url } = yield* cluster
        yield* Postgres.runAt(url(), "create role clinic login superuser")
        // each statement by a new connection, so that the error is that of a login
        const worker = yield* processOn(url().replace("postgres@", "clinic@"), { connectionTTL: 0 })
        const other = yield* processOn(url())
        yield* storeOf(worker).record(ids.map((id) => call(id)))
        const claim = yield* claimBy(worker)
        expect(idsOf(claim.chunks)).toEqual(ids)
        yield* Postgres.runAt(url(), "alter role clinic nologin")
        // a connection that was made before may be left
        expect(yield* Effect.flip(Effect.forever(claimBy(worker)))).toMatchObject({ code: "28000" })
        yield* outlived(url())
        yield* Postgres.runAt(url(), "alter role clinic login")
        expect(yield* claimBy(worker)).toMatchObject({ chunks: [] })
        yield* speak(worker, claim)
        expect(yield* nextTakenBy(other)).toEqual(ids.map((id) => [id, 0]))
      }).pipe(Effect.scoped)
  )

  it.live(
    "of one worker's network: who takes its chunks meanwhile takes it for dead, until it speaks again",
    () =>
      Effect.gen(function*() {
        const url = yield* Postgres.migratedDatabase(version)
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => startProxy(Number(new URL(url).port))),
          (proxy) => Effect.promise(() => proxy.close())
        )
        const through = new URL(url)
        through.port = String(proxy.port)
        const cutOff = yield* processOn(through.href)
        const other = yield* processOn(url)
        yield* storeOf(other).record(ids.map((id) => call(id)))
        const claim = yield* claimBy(cutOff)
        expect(idsOf(claim.chunks)).toEqual(ids)
        proxy.watch(() => "cut")
        expect(yield* Effect.flip(storeOf(cutOff).renew(claim.token, claim.chunks, lease))).toMatchObject({
          transient: true
        })
        yield* outlived(url)
        // there is no telling it from one that died
        const taken = yield* claimBy(other)
        expect(taken.chunks).toMatchObject([{ key: { callId: "a" }, crashes: 1 }])
        proxy.watch(() => "pass")
        // but who was cut off itself takes nobody for dead
        expect(yield* Effect.retry(takenBy(cutOff), { while: (error) => error.transient })).toEqual([])
        yield* speak(cutOff, claim)
        yield* speak(other, taken)
        expect(yield* takenBy(other)).toEqual(ids.map((id) => [id, 0]))
      }).pipe(Effect.scoped)
  )
})
