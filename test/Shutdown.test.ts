/**
 * How a program of workers ends that is told to; the examples' programs show the rest.
 */
import { it } from "@effect/vitest"
import { CallRecorder } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import path from "node:path"
import { expect } from "vitest"
import { note, record } from "./support/clinic.ts"
import { chunkOf } from "./support/drain.ts"
import { client, migratedDatabase } from "./support/Postgres.ts"
import { startScript } from "./support/programs.ts"

it.live(
  "one signal is enough, though a handler hangs and cannot be interrupted; nobody is charged",
  () =>
    Effect.gen(function*() {
      const url = yield* migratedDatabase()
      yield* Effect.gen(function*() {
        yield* record(note("a"))
        const worker = startScript(path.join(import.meta.dirname, "stubborn.ts"), url)
        yield* Effect.addFinalizer(() => Effect.sync(() => worker.child.kill("SIGKILL")))
        expect(yield* Effect.promise(() => worker.first)).toBe("hangs")
        worker.child.kill("SIGTERM")
        yield* Effect.promise(() => worker.ended)
        // it ended by itself: what hung was given up
        expect(worker.child.exitCode).toBe(0)
        expect(yield* chunkOf("a")).toMatchObject({ attempts: 0, failures: [], ledger: null })
      }).pipe(
        Effect.provide(CallRecorder.layer.pipe(Layer.provideMerge(PgStore.layer), Layer.provide(client(url))))
      )
    }).pipe(Effect.scoped)
)
