/**
 * What handlers give back. The compiler sees to it that they give back domain objects; a handler without types, or one
 * that told the compiler otherwise, must not bring the drain to a stop or put into the ledger what nobody can read.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { DomainObject } from "../DomainObject.ts"

/** What a handler gave back is not what a handler may give back: the compiler was not asked, or was told otherwise. */
export const wrong = (what: string): Effect.Effect<never> => Effect.die(new Error(`the handler ${what}`))

/** Runs what a handler says. One without types may have given a promise, or nothing at all. */
export const running = <E>(handle: () => Effect.Effect<unknown, E>): Effect.Effect<unknown, E> =>
  Effect.suspend(() => {
    const effect: unknown = handle()
    return Effect.isEffect(effect)
      ? effect as Effect.Effect<unknown, E>
      : wrong("is no Effect: it must give one back, not a promise or a value")
  })

const isName = (text: unknown): text is string =>
  typeof text === "string" && text !== "" && !text.includes("\0") && text.isWellFormed()

/** The domain objects a handler gave back: none, one or many. What is none of its kind must not reach the ledger. */
export const objectsOf = (created: unknown): Effect.Effect<ReadonlyArray<DomainObject>> => {
  const list: ReadonlyArray<unknown> = Array.isArray(created) ? created : Predicate.isNullish(created) ? [] : [created]
  const objects: Array<DomainObject> = []
  for (const object of list) {
    const type = Predicate.hasProperty(object, "type") ? object.type : undefined
    const id = Predicate.hasProperty(object, "id") ? object.id : undefined
    if (!isName(type) || !isName(id)) {
      return wrong(
        "gave back something that names no row: give back DomainObject.make(type, id), a list of them, or none"
      )
    }
    objects.push({ type, id })
  }
  return Effect.succeed(objects)
}
