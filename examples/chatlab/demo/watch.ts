/**
 * What the demo watches while it runs: how far it is, what is created, and whether the images have come.
 */
import { DomainEvents } from "effect-sluice"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { Media } from "../Media.ts"

/** Tells people, not programs, of every thousand and of the last. */
export const progress = (what: string) => {
  let told = 0
  return {
    at: (count: number) => {
      if (Math.floor(count / 1000) === Math.floor(told / 1000)) return Effect.void
      told = count
      return Console.error(`${what}: ${count} so far`)
    },
    end: (count: number) => Console.error(`${what}: ${count}`)
  }
}

/** Counts the created objects by type, for as long as the scope lives. */
export const created = Effect.gen(function*() {
  const counts = new Map<string, number>()
  const events = yield* (yield* DomainEvents.DomainEvents).subscribe
  yield* Effect.forkScoped(
    Stream.runForEach(
      events,
      ({ object }) => Effect.sync(() => counts.set(object.type, (counts.get(object.type) ?? 0) + 1))
    )
  )
  return counts
})

/** Images are attached a moment after the messages: gives the subscriber that moment. */
export const imagesAttached = Effect.gen(function*() {
  const media = yield* Media
  yield* Effect.repeat(media.count, {
    until: ({ missing }) => missing === 0,
    schedule: Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "5 seconds" }))
  })
})
