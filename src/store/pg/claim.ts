/**
 * The verb `claim`: which of the two statements, from where, and what the rows are in the port's words.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import type { ChunkStore, Claim, ClaimedChunk, ClaimRequest } from "../../ChunkStore.ts"
import { freshToken } from "../../internal/freshToken.ts"
import type * as Settings from "../../Settings.ts"
import { PgChunk } from "./chunk.ts"
import { claimAny } from "./claimAny.ts"
import { at, type ClaimRow, type Range, type Said } from "./claimParts.ts"
import { claimPlain } from "./claimPlain.ts"
import * as Contact from "./contact.ts"
import { longestOf } from "./longest.ts"
import * as LowWater from "./lowWater.ts"
import { outputsOf } from "./outputs.ts"
import type { Tables } from "./tables.ts"

/** The most chunks that are looked at in one statement where those before them were all held up. */
const widest = 1000

const inOrder = (rows: ReadonlyArray<ClaimRow>): ReadonlyArray<ClaimRow> =>
  rows.every((row, index) => index === 0 || row[at.place] > rows[index - 1]![at.place])
    ? rows
    : [...rows].sort((a, b) => a[at.place] - b[at.place])

/** What {@link claimPlain} leaves alone. */
const isSpecial = ({ attempts, crashes, orderingKey }: ClaimedChunk): boolean =>
  orderingKey !== undefined || crashes > 0 || attempts > 0

const placeOf = (time: string | null, seq: string | null): LowWater.Place | undefined =>
  time === null || seq === null ? undefined : { time, seq: BigInt(seq) }

/** What a claim's statement says of its scan. */
const saidBy = (rows: ReadonlyArray<ClaimRow>) => {
  const text = rows.find((row) => row[at.said] !== null)?.[at.said] ??
    "[0, 0, null, null, true, null, null, null, null, null]"
  // the statement makes no other JSON
  const said = JSON.parse(text) as Said
  return {
    aside: said[0] > 0,
    serverTime: said[1],
    reached: { place: placeOf(said[2], said[3]), ended: said[4] },
    ready: placeOf(said[5], said[6]),
    scheduled: placeOf(said[7], said[8]),
    paused: said[9] ?? undefined
  }
}

/** A claim that took nothing. */
class Nothing {
  readonly _tag = "Nothing"
  readonly claim: Claim
  constructor(claim: Claim) {
    this.claim = claim
  }
}

/** A part of what can be claimed, to be looked at from its beginning to its end. */
interface Pass {
  readonly ready: Range
  readonly scheduled: Range
}

/** From the mark to the end, and then what stands before the mark. Who is hasty leaves that out at a mark kept at the end. */
const passesFrom = (mark: LowWater.Mark | undefined): ReadonlyArray<Pass> => {
  if (mark === undefined) return [{ ready: {}, scheduled: {} }]
  const first: Pass = { ready: { after: mark.place }, scheduled: {} }
  return mark.ended ? [first] : [first, { ready: { upTo: mark.place }, scheduled: "none" }]
}

const goOn = (range: Range, after: LowWater.Place | undefined): Range =>
  range === "none" || after === undefined ? "none" : { ...range, after }

/** How a store claims, and what it remembers from one claim to the next. */
export interface Claiming {
  readonly claim: (request: ClaimRequest) => Effect.Effect<Claim, SqlError>
  /** The next claim looks from the beginning. */
  readonly lookAgain: () => void
  /** The next claim looks behind what was the end as well. */
  readonly behindEnd: () => void
}

/** The store's claim, and what makes it look from the beginning again. */
export const makeClaiming = (t: Tables, settings: Settings.Values, contact: Contact.Contact): Claiming => {
  const lowWater = LowWater.make()
  const longest = longestOf(settings)
  // what the last claim found: a queue that holds ordering keys or retries is likely to hold more of them
  let mixed = false

  /**
   * Looks at a part of the queue until something is claimed or all of it was seen. Each statement goes on behind what the
   * one before it looked at, so that what is locked or held up keeps nobody from what comes after it, and there is an end.
   */
  const look = Effect.fnUntraced(function*(request: ClaimRequest, token: string, pass: Pass) {
    const nested = Option.isSome(yield* Effect.serviceOption(t.sql.transactionService))
    // a claim for one call is by that call's own index, and finds what waits as well
    const whole = request.callId === undefined
    let { ready, scheduled } = pass
    let window = request.limit
    let plain = whole && !mixed
    while (true) {
      const asked = yield* Contact.here
      const options = {
        token,
        deadBlocksKey: settings.deadBlocksKey,
        ready,
        scheduled,
        window,
        judged: contact.judged(asked) / 1000,
        longest,
        nested
      }
      const rows = yield* plain ? claimPlain(t, request, options) : claimAny(t, request, options)
      const said = saidBy(rows)
      // within a transaction time stands still
      if (!nested) contact.heard(said.serverTime, asked)
      if (plain && said.aside) {
        mixed = true
        plain = false
        continue
      }
      const held = inOrder(rows.filter((row) => row[at.seq] !== null))
      const outputs = yield* outputsOf(t, held, longest)
      let before: PgChunk | undefined
      const chunks = held.map((row) => before = new PgChunk(row, before, outputs(row)))
      if (whole) mixed = chunks.some(isSpecial)
      ready = goOn(ready, said.ready)
      scheduled = goOn(scheduled, said.scheduled)
      if (chunks.length > 0 || (ready === "none" && scheduled === "none")) {
        return { chunks, reached: said.reached, plain, paused: said.paused }
      }
      window = Math.max(request.limit, Math.min(2 * window, widest))
    }
  })

  const claimOnce = Effect.fnUntraced(function*(request: ClaimRequest): Effect.fn.Return<Claim, SqlError> {
    const token = request.token ?? (yield* freshToken)
    const whole = request.callId === undefined
    const { namespace } = request
    const mark = whole ? lowWater.from(namespace, yield* Contact.here, request.hasty === true) : undefined
    for (const [index, pass] of passesFrom(mark).entries()) {
      const began = yield* Contact.here
      const { chunks, paused, plain, reached } = yield* look(request, token, pass)
      const now = yield* Contact.here
      const from = index === 0 ? mark : undefined
      if (whole) lowWater.move(namespace, { mark: from, reached, rows: chunks.length, began, now })
      if (chunks.length === 0) continue
      // of what has keys, or was looked for from somewhere, more may be due
      return { token, chunks, paused, last: plain && reached.ended && (from === undefined || from.ended) }
    }
    return { token, chunks: [] }
  })

  /**
   * Within a caller's transaction what was only looked at would stay locked until its end, and whoever wakes it would wait:
   * the worker, too, whom the caller waits for. So a claim that took nothing there is rolled back.
   */
  const claim = Effect.fnUntraced(function*(request: ClaimRequest): Effect.fn.Return<Claim, SqlError> {
    const nested = Option.isSome(yield* Effect.serviceOption(t.sql.transactionService))
    if (!nested) return yield* claimOnce(request)
    return yield* claimOnce(request).pipe(
      Effect.filterOrFail(({ chunks }) => chunks.length > 0, (claim) => new Nothing(claim)),
      t.sql.withTransaction,
      Effect.catchTag("Nothing", ({ claim }) => Effect.succeed(claim))
    )
  })

  return { claim, lookAgain: lowWater.reset, behindEnd: lowWater.resetEnds }
}

/** The verb. */
export const claim = (
  { claiming, t }: { readonly claiming: Claiming; readonly t: Tables }
): ChunkStore["Service"]["claim"] =>
(request) => t.client.statement(claiming.claim(request))
