/**
 * The ends of calls, where workers settle the last chunks at the same time, and where one dies before it has told the end:
 * each is told, and once.
 */
import { it } from "@effect/vitest"
import { ChunkStore, DeadLetters, EventLog, Subscription } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as Statement from "effect/sql/Statement"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { describe, expect } from "vitest"
import { call, claim, persist, record, reply, settle } from "../contract/operators/dialogues.ts"
import { heldOpen } from "../support/heldOpen.ts"
import * as Postgres from "../support/Postgres.ts"

/** Runs the program that dies; gives back the signal that ended it. */
const runToItsDeath = (url: string) =>
  Effect.promise((signal) =>
    new Promise<NodeJS.Signals | null>((resolve) => {
      const program = fileURLToPath(new URL("dyingSettler.ts", import.meta.url))
      const child = spawn(process.execPath, ["--conditions=sluice-source", program], {
        env: { ...process.env, DATABASE_URL: url },
        stdio: "inherit"
      })
      signal.addEventListener("abort", () => child.kill("SIGKILL"))
      child.on("close", (_, ended) => resolve(ended))
    })
  )

const inParts = (callId: string, ...parts: ReadonlyArray<string>) =>
  call(callId, { outputs: parts.map((part) => ({ schema: reply, version: 1, part, data: { text: part } })) })
const open = EventLog.EventLog.use((log) => log.open("complete", "beginning", "calls"))
const beat = ChunkStore.ChunkStore.use((store) => store.beat("next", []))
const claimOne = ChunkStore.ChunkStore.use((store) =>
  store.claim({ worker: "test", limit: 1, maxBytes: 1e9, lease: Duration.minutes(1) })
)

/** The ends that are there, and the calls that are still open. */
const ends = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql<{ end: string }>`
    select pg_catalog.concat_ws(' ', call_id, persisted, dead) as end from sluice.call_end
    union all select call_id || ' open' from sluice.open_call order by 1`).pipe(
    Effect.map((rows) => rows.map((row) => row.end))
  )

describe.each([15, 18] as const)("the ends of calls, on Postgres %i", (version) => {
  const fresh = Postgres.migratedDatabase(version)
  const on = (url: string) => PgStore.layer.pipe(Layer.provideMerge(Postgres.client(url)))

  it.live(
    "two workers settle the last two chunks at the same time: the end is told, once, at the later commit",
    () =>
      Effect.gen(function*() {
        yield* Effect.gen(function*() {
          yield* open
          yield* record(inParts("a", "history", "plan"))
          // each is persisted before the other one commits, so that each sees the other's chunk
          const claims = [yield* claimOne, yield* claimOne]
          const held = yield* Effect.forEach(claims, (one) => heldOpen(persist(one)))
          expect(yield* ends).toEqual(["a open"])
          yield* held[0]!.end
          expect(yield* ends).toEqual(["a open"])
          yield* held[1]!.end
          expect(yield* ends).toEqual(["a 2 0"])
          // and where both look after both commits
          const many = Array.from({ length: 30 }, (_, n) => `m${n}`)
          yield* record(...many.map((id) => inParts(id, "history", "plan")))
          const two = yield* Effect.all([claimHalf, claimHalf])
          yield* Effect.forEach(two, persist, { concurrency: 2 })
          expect(yield* ends).toEqual(["a 2 0", ...many.map((id) => `${id} 2 0`)].sort())
        }).pipe(Effect.scoped, Effect.provide(on(yield* fresh)))
      }),
    60_000
  )

  it.live(
    "a worker killed after its commit has told no end: a beat of another tells it, once",
    () =>
      Effect.gen(function*() {
        const url = yield* fresh
        yield* Effect.gen(function*() {
          yield* open
          yield* record(inParts("a", "history", "plan"))
          yield* settle(({ key }) => key.part === "plan" ? "released" : { dead: "exhausted" })
          expect(yield* runToItsDeath(url)).toBe("SIGKILL")
          expect(yield* ends).toEqual(["a open"])
          expect(yield* settle("persisted")).toEqual([])
          yield* Effect.all([beat, beat, beat], { concurrency: 3 })
          expect(yield* ends).toEqual(["a 1 1"])
          yield* DeadLetters.DeadLetters.use((letters) => letters.redrive({}))
          yield* settle("persisted")
          yield* beat
          expect(yield* ends).toEqual(["a 1 1"])
        }).pipe(Effect.scoped, Effect.provide(on(url)))
      }),
    60_000
  )

  it.live(
    "an end that could not be written fails nothing, and is written at the next beat",
    () =>
      Effect.gen(function*() {
        yield* Effect.gen(function*() {
          yield* open
          yield* record(call("a"), call("b"))
          const sent: Array<string> = []
          yield* settle(({ key }) => key.callId === "a" ? "persisted" : { dead: "rejected" }).pipe(
            Effect.provideService(Statement.CurrentTransformer, (statement, sql) => {
              const isClosing = statement.compile()[0].includes("insert into \"sluice\".call_end")
              if (isClosing) sent.push("end")
              return Effect.succeed(isClosing ? sql`select 1 / 0` : statement)
            })
          )
          expect(sent).toEqual(["end", "end"])
          expect(yield* ends).toEqual(["a open", "b open"])
          yield* beat
          expect(yield* ends).toEqual(["a 1 0", "b 0 1"])
        }).pipe(Effect.scoped, Effect.provide(on(yield* fresh)))
      }),
    60_000
  )

  it.live(
    "an end is read in the order of commits, not before an older transaction that still writes",
    () =>
      Effect.gen(function*() {
        yield* Effect.gen(function*() {
          yield* open
          const sql = yield* SqlClient.SqlClient
          yield* record(call("a"), call("b"))
          const first = yield* claimOne
          const writing = yield* heldOpen(sql`select pg_catalog.pg_current_xact_id()::pg_catalog.text`)
          yield* persist(first)
          const take = EventLog.EventLog.use((log) =>
            log.take("complete", {
              feed: "calls",
              limit: 9,
              maxBytes: 1e6,
              lease: Duration.minutes(1),
              reader: "test"
            })
          )
          expect(yield* take).toEqual(Option.none())
          yield* writing.end
          yield* Effect.flatMap(claim, persist)
          const told: Array<string> = []
          yield* Effect.scoped(Effect.gen(function*() {
            yield* Subscription.makeCalls("complete", ({ callId }) => Effect.sync(() => told.push(callId)))
            yield* Effect.repeat(Effect.sleep("10 millis"), { until: () => told.length >= 2 })
          }))
          expect(told).toEqual(["a", "b"])
        }).pipe(Effect.scoped, Effect.provide(on(yield* fresh)))
      }),
    60_000
  )
})

/** Half of 30 calls with two chunks each, in whatever order they are due. */
const claimHalf = ChunkStore.ChunkStore.use((store) =>
  store.claim({ worker: "test", limit: 30, maxBytes: 1e9, lease: Duration.minutes(1) })
)
