/**
 * Runs a batch whose handler has a `persistMany`: one run for the whole batch. It fails as a whole, without naming the
 * chunk that failed, unless that does not decode.
 */
import * as Effect from "effect/Effect"
import { CurrentInsert, TableLocked, TableUnfit } from "../Declaration.ts"
import type { DomainObject } from "../DomainObject.ts"
import { handlerDefect, objectsOf, runHandler } from "../internal/handlerResult.ts"
import { type BatchRun, carryOut, type Runs, soundAfter, toPersisted } from "./batch.ts"
import { BatchFailed, errorIn } from "./failure.ts"
import { Undecodable } from "./prepare.ts"

/** Runs a batch as one run. */
export const runMany: Runs = Effect.fnUntraced(function*(run: BatchRun) {
  const { batch, handler } = run
  const persistMany = handler.run._tag === "Many" ? handler.run.persistMany : () => Effect.succeed([])
  const work = Effect.flatMap(
    Effect.flatMap(Effect.forEach(batch, (one) => one.input), (inputs) => runHandler(() => persistMany(inputs))),
    (results) => {
      const objects = resultsOf(results, batch.length)
      return objects instanceof Error ? Effect.die(objects) : Effect.succeed(objects)
    }
  )
  const result = yield* carryOut(run, batch, Effect.provideService(work, CurrentInsert, run.transaction.insert))
  if (result._tag === "Done") {
    const persisted = batch.map((one, index) => toPersisted(one, result.value[index] ?? []))
    return { persisted, failedUnsent: new Map(), notRun: [] }
  }
  if (result.sent && !result.isCutOff) yield* soundAfter(run, result.cause, undefined)
  const { cause } = result
  const undecodable = errorIn(cause, Undecodable)
  const culprits = batch.filter(({ chunk }) => chunk === undecodable?.chunk)
  return yield* new BatchFailed({
    failed: new Map((culprits.length > 0 ? culprits : batch).map((one) => [one, cause])),
    maybeHarmed: new Set(batch),
    failedUnsent: new Map(),
    notRun: [],
    // if the table does not fit its declaration, or is locked, no chunk is at fault, and halving would find none
    asIfAlone: culprits.length > 0 || errorIn(cause, TableUnfit) !== undefined ||
      errorIn(cause, TableLocked) !== undefined
  })
})

/** What a `persistMany` returned, for each input; or the defect that it is. */
export const resultsOf = (results: unknown, inputs: number): ReadonlyArray<ReadonlyArray<DomainObject>> | Error => {
  if (!Array.isArray(results)) {
    return handlerDefect("returned no list of results: persistMany returns one for each input")
  }
  if (results.length !== inputs) {
    return handlerDefect(
      `returned ${results.length} results for ${inputs} inputs: persistMany returns one for each`
    )
  }
  const objects: Array<ReadonlyArray<DomainObject>> = []
  for (const result of results) {
    const created = objectsOf(result)
    if (created instanceof Error) return created
    objects.push(created)
  }
  return objects
}
