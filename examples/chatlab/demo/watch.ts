/**
 * Watches the demo while it runs: its progress, the created objects, and the attached images.
 */
import { DomainEvents } from "effect-sluice"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { Media } from "../Media.ts"

/** Reports every thousand and the last one, on stderr. */
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

/** Waits a moment for the subscriber: it attaches images shortly after the messages are committed. */
export const imagesAttached = Effect.gen(function*() {
  const media = yield* Media
  yield* Effect.repeat(media.count, {
    until: ({ missing }) => missing === 0,
    schedule: Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "5 seconds" }))
  })
})
