/**
 * A subscriber killed between handling and moving on.
 */
import { layer } from "@effect/vitest"
import { Subscription } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { expect } from "vitest"
import { call, record, settle } from "../contract/operators/dialogues.ts"
import * as Postgres from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

class Url extends Context.Service<Url, string>()("test/Url") {}

const ground = PgStore.layer.pipe(
  Layer.provideMerge(Layer.unwrap(Effect.map(Url, (url) => Postgres.client(url)))),
  Layer.provideMerge(Layer.effect(Url, Postgres.migratedDatabase()))
)

/** Runs the program that dies; gives back the signal that ended it. */
const runToItsDeath = (env: { readonly [name: string]: string }) =>
  Effect.promise((signal) =>
    new Promise<NodeJS.Signals | null>((resolve) => {
      const program = fileURLToPath(new URL("dyingReader.ts", import.meta.url))
      const child = spawn(process.execPath, ["--conditions=sluice-source", program], {
        env: { ...process.env, ...env },
        stdio: "inherit"
      })
      signal.addEventListener("abort", () => child.kill("SIGKILL"))
      child.on("close", (_, ended) => resolve(ended))
    })
  )

layer(ground, { excludeTestServices: true, timeout: 60_000 })("a reader", (it) => {
  it.effect(
    "killed after handling, before moving on: the event comes again, and none is lost",
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const ids = ["a", "b", "c", "d", "e"]
        const seenBy = (reader: string) =>
          Effect.map(
            sql<{ call_id: string }>`select call_id from seen where reader = ${reader} order by n`,
            (rows) => rows.map((row) => row.call_id).join("")
          )
        yield* sql`create table seen (n serial, call_id text, reader text)`
        yield* Effect.forEach(ids, (id) => Effect.andThen(record(call(id)), settle("persisted")))

        expect(yield* runToItsDeath({ DATABASE_URL: yield* Url, DIE_AT: "c", SLUICE_LEASE: "1 second" })).toBe(
          "SIGKILL"
        )
        expect(yield* seenBy("killed")).toBe("abc")

        const handle: Subscription.Handler<unknown> = ({ key }) =>
          sql`insert into seen (call_id, reader) values (${key.callId}, 'next')`
        yield* Subscription.make("media", handle, { pollInterval: Duration.millis(50) })
        yield* untilIt(seenBy("next"), (seen) => seen.endsWith("e"))
        // from where the killed one last moved on: at the latest from the event it handled last
        expect(["abcde", "bcde", "cde"]).toContain(yield* seenBy("next"))
      }),
    60_000
  )

  it.effect("whose connections are cut in the middle goes on, and none is lost", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const ids = ["f", "g", "h", "i", "j"]
      const seen: Array<string> = []
      yield* Effect.forEach(ids, (id) => Effect.andThen(record(call(id)), settle("persisted")))
      let cut = false
      const handle: Subscription.Handler<unknown> = ({ key }) =>
        Effect.suspend(() => {
          seen.push(key.callId)
          if (key.callId !== "h" || cut) return Effect.void
          cut = true
          // the last of them is the one that says it
          return Effect.ignore(sql`select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() order by pid = pg_backend_pid()`)
        })
      yield* Subscription.make("cut", handle, { batchSize: 2, pollInterval: "50 millis", lease: "1 second" })
      yield* untilIt(Effect.sync(() => seen.at(-1)), (last) => last === "j")
      expect([...new Set(seen.filter((id) => ids.includes(id)))]).toEqual(ids)
    }), 60_000)
})
