/**
 * A database whose default is read-only transactions: from the first refusal on, Sluice sends its statements in transactions
 * of its own, and takes none of these for one of the caller's.
 */
import { it } from "@effect/vitest"
import { CallRecorder } from "effect-sluice"
import * as Settings from "effect-sluice/Settings"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { describe, expect } from "vitest"
import { call, reply } from "../contract/operators/dialogues.ts"
import * as inspect from "../support/inspect.ts"
import { client, migratedDatabase, runAt } from "../support/Postgres.ts"

const on = (url: string) =>
  CallRecorder.layer.pipe(
    Layer.provideMerge(Layer.fresh(PgStore.layer)),
    Layer.provide(Settings.layer({ listen: false })),
    Layer.provideMerge(Layer.fresh(client(url)))
  )

/** Refuses calls of one namespace, as a constraint of an application's does. */
const closed =
  `alter table sluice.service_call add constraint ward_is_open check (namespace <> 'closed' or outputs is null)`

describe("a database whose transactions are read-only by default", () => {
  it.effect("runs and records calls, and says which the database refuses", () =>
    Effect.gen(function*() {
      const url = yield* migratedDatabase()
      yield* Effect.scoped(Layer.build(on(url)))
      yield* runAt(url, closed)
      yield* runAt(url, `alter database ${new URL(url).pathname.slice(1)} set default_transaction_read_only = on`)
      yield* Effect.gen(function*() {
        const { record, run } = yield* CallRecorder.CallRecorder
        const answer = Effect.succeed([{ schema: reply, version: 1, data: { text: "It hurts." } }])
        const run1 = (callId: string, namespace = "chatlab") => {
          const { outputs: _, ...spec } = { ...call(callId), namespace }
          return run(spec, answer)
        }
        for (const id of ["a", "b", "c"]) expect((yield* run1(id)).ran).toBe(true)
        expect(yield* record(call("d"))).toBe("recorded")
        expect(yield* Effect.flip(record({ ...call("e"), namespace: "closed" }))).toMatchObject({ _tag: "CallRefused" })
        expect(yield* Effect.flip(run1("f", "closed"))).toMatchObject({ _tag: "CallRefused" })
        expect((yield* inspect.call("f")).pipe((found) => found._tag === "Some" ? found.value.status : "none")).toBe(
          "invalid"
        )
      }).pipe(Effect.provide(on(url)))
    }).pipe(Effect.scoped), 60_000)
})
