/**
 * Checks what handlers return. The compiler checks that they return domain objects. A handler written without types, or
 * with a cast, may return anything: that must not stop the drain, and must not put anything unreadable into the ledger.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { DomainObject } from "../DomainObject.ts"
import { objectsProblem } from "./objectLimits.ts"

/** The defect of a handler that breaks its contract. `what` completes the sentence "the handler …". */
export const handlerDefect = (what: string): Error => new Error(`the handler ${what}`)

/** Runs the effect that a handler returns. One without types may return a promise, or nothing. */
export const runHandler = <E>(handle: () => Effect.Effect<unknown, E>): Effect.Effect<unknown, E> =>
  Effect.suspend(() => {
    const effect: unknown = handle()
    return Effect.isEffect(effect)
      ? effect as Effect.Effect<unknown, E>
      : Effect.die(handlerDefect("did not return an Effect: return one, not a promise or a value"))
  })

const isName = (text: unknown): text is string =>
  typeof text === "string" && text !== "" && !text.includes("\0") && text.isWellFormed()

const namesNoRow =
  "returned something that names no row: return DomainObject.make(type, id), a list of them, or nothing"

/** The row that an object names, or undefined. Other fields of the object are dropped. */
const rowOf = (object: unknown): DomainObject | undefined => {
  const type = Predicate.hasProperty(object, "type") ? object.type : undefined
  const id = Predicate.hasProperty(object, "id") ? object.id : undefined
  return isName(type) && isName(id) ? { type, id } : undefined
}

/**
 * The domain objects that a handler returned: none, one or many; or the defect when it returned something else. Not an
 * effect, because it runs for each chunk and a fiber step would cost time.
 */
export const objectsOf = (created: unknown): ReadonlyArray<DomainObject> | Error => {
  const rows: Array<DomainObject> = []
  try {
    for (const object of Array.isArray(created) ? created : Predicate.isNullish(created) ? [] : [created]) {
      const row = rowOf(object)
      if (row === undefined) return handlerDefect(namesNoRow)
      rows.push(row)
    }
    const problem = objectsProblem(rows)
    return problem === undefined ? rows : handlerDefect(problem)
  } catch (error) {
    // reading an object may throw: a getter, a revoked proxy
    return error instanceof Error ? error : handlerDefect(namesNoRow)
  }
}
