/**
 * Calls that are recorded and persisted in one commit, by a process that may die meanwhile.
 */
import { Drain, Inspector, type ServiceCall } from "effect-sluice"
import { ChunkStore } from "effect-sluice/ChunkStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { make as makeQuarantine, Quarantine } from "../../src/drain/Quarantine.ts"
import { recordedErrors } from "../support/recordedErrors.ts"
import { faulty, faultyInspector, type Life, type Weather } from "./faults.ts"
import { CurrentLife, handlers } from "./ward.ts"

/**
 * Records a call and persists it, in a process that handlers may take down. That its rows are not there yet is no failure.
 */
export const recordNow = Effect.fnUntraced(function*(call: ServiceCall.ServiceCall, weather: Weather, life: Life) {
  const store = yield* ChunkStore
  const inspector = yield* Inspector.Inspector
  const context = yield* Layer.build(Drain.layer.pipe(
    Layer.provide(handlers.mixed.new),
    Layer.provide(Layer.succeed(ChunkStore, faulty(store, weather, life))),
    Layer.provide(Layer.succeed(Inspector.Inspector, faultyInspector(inspector, weather, life))),
    Layer.fresh
  ))
  yield* Context.get(context, Drain.Drain).recordNow(call).pipe(
    Effect.catchTag(recordedErrors, () => Effect.void),
    Effect.provideService(CurrentLife, life),
    Effect.provideService(Quarantine, makeQuarantine())
  )
}, Effect.scoped)
