/**
 * The verb `releaseWaiting`: releases all waiting chunks that nothing blocks.
 */
import * as Effect from "effect/Effect"
import type { Engine } from "./engine.ts"
import { type OrderingKey, release } from "./waiting.ts"

/** How many ordering keys are examined in one commit. */
const portion = 1000

/** The verb. Works in portions with one commit each. */
export const releaseWaiting = ({ claiming, hint, settings: { deadBlocksKey }, t }: Engine) =>
  Effect.gen(function*() {
    let after: OrderingKey | undefined
    let total = 0
    while (true) {
      const [done] = yield* t.client.statement(release(t, { keys: portion, after, deadBlocksKey }))
      total += done?.released ?? 0
      if (done === undefined || (done.looked < portion && done.released < portion)) break
      after = done.last ?? after
    }
    if (total > 0) {
      claiming.lookAgain()
      yield* hint("chunks")
    }
    return total
  })
