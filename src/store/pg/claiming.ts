/**
 * How this store claims: which of the two statements, from where, and what the rows are in the port's words.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import type { Claim, ClaimedChunk, ClaimRequest } from "../../ChunkStore.ts"
import { freshToken } from "../../internal/token.ts"
import type { Settings } from "../../Settings.ts"
import { PgChunk } from "./chunk.ts"
import { at, claimAny, claimPlain, type ClaimRow } from "./claim.ts"
import { longestOf } from "./longest.ts"
import * as LowWater from "./lowWater.ts"
import { outputsOf } from "./outputs.ts"
import type { Tables } from "./tables.ts"

const inOrder = (rows: ReadonlyArray<ClaimRow>): ReadonlyArray<ClaimRow> =>
  rows.every((row, index) => index === 0 || row[at.place] > rows[index - 1]![at.place])
    ? rows
    : [...rows].sort((a, b) => a[at.place] - b[at.place])

/** What {@link claimPlain} leaves alone. */
const isSpecial = ({ attempts, crashes, orderingKey }: ClaimedChunk): boolean =>
  orderingKey !== undefined || crashes > 0 || attempts > 0

/** What was put aside, and how far the scan came, if it found anything. */
const saidBy = (rows: ReadonlyArray<ClaimRow>): { readonly aside: boolean; readonly reached?: LowWater.Reached } => {
  const said = rows.find((row) => row[at.said] !== null)?.[at.said]?.split(" / ")
  if (said === undefined) return { aside: false }
  const [aside, rank, seq = "0", end] = said
  const reached = rank === undefined ? {} : { reached: { place: { rank, seq: BigInt(seq) }, ended: end !== undefined } }
  return { aside: aside !== "0", ...reached }
}

/** The store's claim, and what makes it look from the beginning again. */
export const make = (t: Tables, settings: Settings) => {
  const lowWater = LowWater.make()
  const longest = longestOf(settings)
  // what the last claim found: a queue that holds ordering keys or retries is likely to hold more of them
  let mixed = false

  const claim = Effect.fnUntraced(function*(request: ClaimRequest): Effect.fn.Return<Claim, SqlError> {
    const token = request.token ?? (yield* freshToken)
    const nested = Option.isSome(yield* Effect.serviceOption(t.sql.transactionService))
    const clock = yield* Clock.Clock
    // a claim for one call is by that call's own index, and finds what waits as well
    const whole = request.callId === undefined
    const { namespace } = request
    const hasty = request.hasty === true
    let mark = whole ? lowWater.from(namespace, clock.currentTimeMillisUnsafe(), hasty) : undefined
    let from = mark?.place
    let fromBeginning = from === undefined
    while (true) {
      const plain = whole && !mixed
      const options = { token, deadBlocksKey: settings.deadBlocksKey, from, longest, nested }
      const began = clock.currentTimeMillisUnsafe()
      const rows = yield* plain ? claimPlain(t, request, options) : claimAny(t, request, options)
      const { aside, reached } = saidBy(rows)
      if (plain && aside) {
        mixed = true
        continue
      }
      const held = inOrder(rows.filter((row) => row[at.seq] !== null))
      const outputs = yield* outputsOf(t, held, longest)
      let before: PgChunk | undefined
      const chunks = held.map((row) => before = new PgChunk(row, before, outputs(row)))
      const now = clock.currentTimeMillisUnsafe()
      if (whole) lowWater.move(namespace, { mark, reached, rows: chunks.length, began, now })
      if (whole) mixed = chunks.some(isSpecial)
      if (chunks.length > 0) {
        // of what has keys, or was looked for from somewhere, more may be due
        const last = plain && reached?.ended === true && (from === undefined || mark?.ended === true)
        return { token, chunks, last }
      }
      // What was found to be behind an older chunk is put aside; what comes after it may be free.
      if (aside) continue
      // All that was looked at is behind something that another worker is settling right now: what comes after it is not.
      if (reached?.ended === false) from = reached.place
      else if (fromBeginning || mark?.ended === true) return { token, chunks }
      else {
        mark = from = undefined
        fromBeginning = true
      }
    }
  })

  return { claim, lookAgain: lowWater.reset, behindEnd: lowWater.resetEnds }
}
