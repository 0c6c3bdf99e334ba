/**
 * Functions and operators of others, in a schema that stands first in the path of the worker's role: Sluice's statements
 * mean those of Postgres, on every verb of the port and whatever an operator asks. (A function without its schema in a
 * statement that is not run here is found by `statementNames.test.ts`.)
 */
import { ChunkStore, Inspector } from "effect-sluice"
import * as Settings from "effect-sluice/Settings"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { afterAll, describe, expect, it } from "vitest"
import { rebase } from "../../src/store/pg/rebase.ts"
import * as sequences from "../../src/store/pg/sequences.ts"
import { reserve } from "../../src/store/pg/session.ts"
import { tables } from "../../src/store/pg/tables.ts"
import * as PgServer from "../../src/store/PgServer.ts"
import * as PgStore from "../../src/store/PgStore.ts"
import { beat } from "../../src/testing/contract/beat.ts"
import { callEnds } from "../../src/testing/contract/callEnds.ts"
import { claiming } from "../../src/testing/contract/claiming.ts"
import { deadLetters } from "../../src/testing/contract/deadLetters.ts"
import { eventLog } from "../../src/testing/contract/eventLog.ts"
import { ordering } from "../../src/testing/contract/ordering.ts"
import { pauses } from "../../src/testing/contract/pauses.ts"
import { persisting } from "../../src/testing/contract/persisting.ts"
import { recording } from "../../src/testing/contract/recording.ts"
import { retention } from "../../src/testing/contract/retention.ts"
import { run } from "../cli/inProcess.ts"
import { onDatabases } from "../contract/operators/ground.ts"
import { client } from "../support/Postgres.ts"
import { shadowed } from "../support/shadows.ts"

const scope = Scope.makeUnsafe()
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
const [on18, on15] = await Effect.runPromise(
  Effect.all([shadowed(18), shadowed(15)], { concurrency: 2 }).pipe(Scope.provide(scope))
)

onDatabases({ "Postgres 18": client(on18), "Postgres 15": client(on15) }, [
  ...claiming,
  ...persisting,
  ...beat
])

// what these say is the same in both
onDatabases({ "Postgres 18": client(on18) }, [
  ...ordering,
  ...recording,
  ...deadLetters,
  ...eventLog,
  ...callEnds,
  ...pauses,
  ...retention
])

/** Runs this on a database, as the role in whose path the others come first. */
const at = <A, E>(url: string, work: Effect.Effect<A, E, SqlClient.SqlClient | Settings.Settings>) =>
  Effect.runPromise(Effect.provide(work, Layer.fresh(client(url)), { local: true }))

const schema = "sluice"

describe.each([["Postgres 18", on18], ["Postgres 15", on15]])("what an operator asks, on %s", (_, url) => {
  it("is answered: by each command", async () => {
    for (
      const line of [
        "migrate",
        "doctor",
        "status",
        "stuck",
        "show call-1",
        "show chatlab.Message:1",
        "dead",
        "subscriptions",
        "prune --payloads 2h --dry-run",
        "mend"
      ]
    ) {
      const { stderr, stdout } = await run(...line.split(" "), "--url", url)
      // a port may have the digits of an error's code
      const answer = `${line}: ${stdout}${stderr}`.replaceAll(/127\.0\.0\.1:\d+/g, "the server")
      expect(answer).not.toMatch(/hostile|permission denied|42\d{3}/)
    }
  })

  it("is answered: by each look of the doctor's and each gauge", () =>
    at(
      url,
      Effect.gen(function*() {
        const { vitals, ...inspector } = yield* Inspector.Inspector
        const { facts, schema: _, ...server } = yield* PgServer.PgServer
        const store = yield* ChunkStore.ChunkStore
        const asked: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          inspector.call("call-1"),
          inspector.callsThatMade([{ type: "chatlab.Message", id: "1" }]),
          inspector.due("chatlab"),
          inspector.stuck({ limit: 10, namespace: "chatlab" }),
          inspector.workers(),
          inspector.workers(["ward"]),
          inspector.isKnown({ namespace: "chatlab", schemaIdentity: "*" }),
          vitals.stranded(),
          store.releaseWaiting,
          store.probe,
          // each question that takes nothing
          ...[inspector, vitals, server].flatMap((questions) =>
            Object.values(questions).filter((one): one is Effect.Effect<unknown, unknown> => Effect.isEffect(one))
          )
        ]
        expect(asked.length).toBeGreaterThan(30)
        const exits = yield* Effect.forEach(asked, (one) => Effect.exit(one))
        expect(exits.filter(Exit.isFailure)).toEqual([])
        expect((yield* facts).pathProblem).toBeUndefined()
      }).pipe(Effect.provide(Layer.merge(PgStore.layerAsItIs, PgServer.layer)))
    ))

  it("is done: a sequence and the event's numbers are put right, as after a move to another cluster", () =>
    at(
      url,
      Effect.gen(function*() {
        const sql = (yield* SqlClient.SqlClient).withoutTransforms()
        const t = tables(sql, schema)
        yield* sql.unsafe(`insert into sluice.persisted_chunk
          (call_id, schema_identity, namespace, schema_version, handler, handler_version, seq, xact)
          values ('a', 'b', 'chatlab', 1, 'c', 1, 1000, '999999999999'), ('d', 'b', 'chatlab', 1, 'c', 1, 2000, default)`)
        yield* sql.unsafe("update sluice.subscription_log set witness = '3'")
        const mended = yield* Effect.scoped(
          Effect.flatMap(reserve(sql, Duration.infinity), (session) => sequences.mend(session, schema))
        )
        expect(mended).toMatchObject([{ sequence: "chunk_seq" }])
        expect(yield* rebase(t, true)).toMatchObject({ outcome: "raised" })
      })
    ))
})
