/**
 * What handlers give back. The compiler sees to it that they give back domain objects; a handler without types, or one
 * that told the compiler otherwise, must not bring the drain to a stop or put into the ledger what nobody can read.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { DomainObject } from "../DomainObject.ts"
import { objectsProblem } from "./objectLimits.ts"

/** What a handler gave back is not what a handler may give back: the compiler was not asked, or was told otherwise. */
export const handlerDefect = (what: string): Error => new Error(`the handler ${what}`)

/** Runs what a handler says. One without types may have given a promise, or nothing at all. */
export const runHandler = <E>(handle: () => Effect.Effect<unknown, E>): Effect.Effect<unknown, E> =>
  Effect.suspend(() => {
    const effect: unknown = handle()
    return Effect.isEffect(effect)
      ? effect as Effect.Effect<unknown, E>
      : Effect.die(handlerDefect("is no Effect: it must give one back, not a promise or a value"))
  })

const isName = (text: unknown): text is string =>
  typeof text === "string" && text !== "" && !text.includes("\0") && text.isWellFormed()

const namesNoRow =
  "gave back something that names no row: give back DomainObject.make(type, id), a list of them, or none"

/** The row that an object names. Nothing else of the object is kept. */
const rowOf = (object: unknown): DomainObject | undefined => {
  const type = Predicate.hasProperty(object, "type") ? object.type : undefined
  const id = Predicate.hasProperty(object, "id") ? object.id : undefined
  return isName(type) && isName(id) ? { type, id } : undefined
}

/**
 * The domain objects a handler gave back: none, one or many; or the defect that it is, when it is none of these, which
 * must not reach the ledger. No effect, so that a chunk costs no step of a fiber.
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
    // some objects throw when one looks at them
    return error instanceof Error ? error : handlerDefect(namesNoRow)
  }
}
