/**
 * Random programs of statements (locks, updates, upserts, savepoints, settings, requests, failures) as handlers, in batches
 * of 1, 2 and 100: the tables are those of some order of them, one after another. As long as wished by `npm run programs`.
 */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomInt } from "node:crypto"
import { expect } from "vitest"
import * as Postgres from "../support/Postgres.ts"
import { batchSizes, database, runSeed } from "./run.ts"

const seeds = 12
const first = randomInt(1_000_000)

it.live(
  `of ${seeds} seeds from ${first}, each is as if its programs had run one after another`,
  () =>
    Effect.gen(function*() {
      const url = yield* Postgres.migratedDatabase()
      yield* Effect.gen(function*() {
        for (let seed = first; seed < first + seeds; seed++) {
          for (const batchSize of batchSizes) {
            const { wrong } = yield* runSeed(seed, batchSize)
            expect(wrong, `npm run programs -- --seed ${seed}, batches of ${batchSize}`).toEqual([])
          }
        }
      }).pipe(Effect.provide(database(url)))
    }).pipe(Effect.scoped)
)
