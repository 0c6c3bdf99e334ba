/**
 * The chat laboratory's drain with its subscriber, in a process of its own, to be killed between a commit and its
 * announcement. The database's address is the first argument. Ends when every image is attached.
 */
import { Drain } from "effect-sluice"
import * as Effect from "effect/Effect"
import { Media } from "../../examples/chatlab/Media.ts"
import { laboratory } from "./laboratory.ts"

await Effect.runPromise(
  Effect.gen(function*() {
    const { untilEmpty } = yield* Drain.Drain
    yield* untilEmpty
    yield* Effect.repeat((yield* Media).count, { until: ({ missing }) => missing === 0 })
  }).pipe(Effect.provide(laboratory(process.argv[2] ?? "")))
)
