/**
 * The verb `claim`: chooses one of the two statements and a range to scan, and converts the rows to the port's form.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
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

/** The most chunks that one statement examines after earlier ones were all blocked. */
const widest = 1000

const inOrder = (rows: ReadonlyArray<ClaimRow>): ReadonlyArray<ClaimRow> =>
  rows.every((row, index) => index === 0 || row[at.place] > rows[index - 1]![at.place])
    ? rows
    : [...rows].sort((a, b) => a[at.place] - b[at.place])

/** A chunk that {@link claimPlain} does not take. */
const isSpecial = ({ attempts, crashes, orderingKey }: ClaimedChunk): boolean =>
  orderingKey !== undefined || crashes > 0 || attempts > 0

const placeOf = (time: string | null, seq: string | null): LowWater.Place | undefined =>
  time === null || seq === null ? undefined : { time, seq: BigInt(seq) }

/** Reads what a claim's statement reports about its scan. */
const saidBy = (rows: ReadonlyArray<ClaimRow>) => {
  const text = rows.find((row) => row[at.said] !== null)?.[at.said] ??
    "[0, 0, null, null, true, null, null, null, null, null]"
  // the statement produces only this JSON
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

/** The end of a claim in a caller's transaction that took nothing or failed; its rollback may have failed as well. */
const afterRollback = (cause: Cause.Cause<SqlError | Nothing>): Effect.Effect<Claim, SqlError> => {
  const [nothing, ...more] = cause.reasons
  if (nothing?._tag === "Fail" && nothing.error instanceof Nothing && more.length === 0) {
    return Effect.succeed(nothing.error.claim)
  }
  for (const reason of cause.reasons) {
    const error = reason._tag === "Fail" ? reason.error : reason._tag === "Die" ? reason.defect : undefined
    if (isSqlError(error)) return Effect.fail(error)
  }
  return Effect.failCause(Cause.fromReasons(cause.reasons.filter((reason) => reason._tag !== "Fail")))
}

/** A range of claimable chunks, to be scanned from its beginning to its end. */
interface Pass {
  readonly ready: Range
  readonly scheduled: Range
}

/** First from the mark to the end, then up to the mark. At a mark kept at the end, a hasty claim skips the second pass. */
const passesFrom = (mark: LowWater.Mark | undefined): ReadonlyArray<Pass> => {
  if (mark === undefined) return [{ ready: {}, scheduled: {} }]
  const first: Pass = { ready: { after: mark.place }, scheduled: {} }
  return mark.ended ? [first] : [first, { ready: { upTo: mark.place }, scheduled: "none" }]
}

const goOn = (range: Range, after: LowWater.Place | undefined): Range =>
  range === "none" || after === undefined ? "none" : { ...range, after }

/** A store's claim, with the state that it keeps between claims. */
export interface Claiming {
  readonly claim: (request: ClaimRequest) => Effect.Effect<Claim, SqlError>
  /** Where claims begin to scan. */
  readonly lowWater: LowWater.LowWater
  /** Makes the next claim scan from the beginning. */
  readonly lookAgain: () => void
  /** Makes the next claim also scan behind what was the end. */
  readonly behindEnd: () => void
}

/** The store's claim, and the functions that make it scan from the beginning again. */
export const makeClaiming = (t: Tables, settings: Settings.Values, contact: Contact.Contact): Claiming => {
  const lowWater = LowWater.make()
  const longest = longestOf(t.sql, settings)
  // the last claim's finding: a queue with ordering keys or retries is likely to hold more of them
  let mixed = false

  /**
   * Scans a range of the queue until something is claimed or all of it was examined. Each statement continues after the rows
   * that the previous one examined. Locked or blocked chunks therefore do not hide later ones, and the scan ends.
   */
  const look = Effect.fnUntraced(function*(request: ClaimRequest, token: string, pass: Pass) {
    const nested = Option.isSome(yield* Effect.serviceOption(t.sql.transactionService))
    // a claim for one call uses that call's index, and also finds waiting chunks
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
      // the server's time does not advance within a transaction
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
      // a mixed claim, or one that did not start at the beginning, may have left due chunks
      return { token, chunks, paused, last: plain && reached.ended && (from === undefined || from.ended) }
    }
    return { token, chunks: [] }
  })

  /**
   * Within a caller's transaction, rows that were only examined would stay locked until its end, and block statements that
   * wake them, including those of a worker that the caller waits for. So a claim there that took nothing is rolled back.
   */
  const claim = Effect.fnUntraced(function*(request: ClaimRequest): Effect.fn.Return<Claim, SqlError> {
    const nested = Option.isSome(yield* Effect.serviceOption(t.sql.transactionService))
    if (!nested) return yield* claimOnce(request)
    return yield* claimOnce(request).pipe(
      Effect.filterOrFail(({ chunks }) => chunks.length > 0, (claim) => new Nothing(claim)),
      t.sql.withTransaction,
      Effect.catchCause(afterRollback)
    )
  })

  return { claim, lowWater, lookAgain: lowWater.reset, behindEnd: lowWater.resetEnds }
}

/** The verb. */
export const claim = (
  { claiming, t }: { readonly claiming: Claiming; readonly t: Tables }
): ChunkStore["Service"]["claim"] =>
(request) => t.client.statement(claiming.claim(request))
