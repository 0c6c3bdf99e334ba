/**
 * How this store claims: which of the two statements, from where, and what the rows are in the port's words.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Claim, ClaimRequest } from "../../ChunkStore.ts"
import type { Settings } from "../../Settings.ts"
import { toChunk } from "./chunk.ts"
import { claimAny, claimPlain, type ClaimRow } from "./claim.ts"
import * as LowWater from "./lowWater.ts"
import type { Tables } from "./tables.ts"
import { randomToken } from "./token.ts"

/** What the client takes as one message, less what stands around a chunk in it. */
const mostOfClient = 15 * 1024 * 1024

const inOrder = (rows: ReadonlyArray<ClaimRow>): ReadonlyArray<ClaimRow> =>
  rows.every((row, index) => index === 0 || row.place > rows[index - 1]!.place)
    ? rows
    : [...rows].sort((a, b) => a.place < b.place ? -1 : 1)

/** What {@link claimPlain} leaves alone. */
const isSpecial = (row: ClaimRow): boolean => row.ordering_key !== null || row.crashes > 0 || row.attempts > 0

/** The store's claim, and what makes it look from the beginning again. */
export const make = (t: Tables, settings: Settings) => {
  const lowWater = LowWater.make()
  const longest = Math.max(settings.maxResultBytes, mostOfClient)
  // what the last claim found: a queue that holds ordering keys or retries is likely to hold more of them
  let mixed = false

  const claim = Effect.fnUntraced(function*(request: ClaimRequest) {
    const token = yield* randomToken
    const nested = Option.isSome(yield* Effect.serviceOption(t.sql.transactionService))
    const look = (plain: boolean) => (from: LowWater.Place | undefined) => {
      const options = { token, deadBlocksKey: settings.deadBlocksKey, from, longest, nested }
      return Effect.map(plain ? claimPlain(t, request, options) : claimAny(t, request, options), (answer) => {
        const [first] = answer
        const reached = first === undefined || first.last_rank === null || first.last_seq === null
          ? undefined
          : { rank: first.last_rank, seq: first.last_seq }
        return { answer, reached }
      })
    }
    while (true) {
      // a claim for one call is by that call's own index, and finds what waits as well
      const whole = request.callId === undefined
      const plain = whole && !mixed
      const rows: ReadonlyArray<ClaimRow> = whole
        ? yield* lowWater.from(request.namespace, look(plain))
        : (yield* look(false)(undefined)).answer
      const aside = (rows[0]?.aside ?? 0) > 0
      if (plain && aside) {
        mixed = true
        continue
      }
      const claimed = inOrder(rows.filter((row) => row.seq !== null))
      if (whole) mixed = claimed.some(isSpecial)
      // What was found to be behind an older chunk is put aside; what comes after it may be free.
      if (claimed.length > 0 || !aside) return { token, chunks: claimed.map(toChunk) } satisfies Claim
    }
  })

  return { claim, lookAgain: lowWater.reset }
}
