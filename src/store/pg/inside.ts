/**
 * The verb `persistInside`: a batch of a declared handler in one statement. It locks the first due chunks, makes rows from
 * the recorded JSON, writes the ledger, and deletes the chunks from the queue. No answer leaves the server.
 *
 * There is no lease: the row locks last as long as the statement, which commits as a whole or changes nothing. So there is
 * nothing to renew, release or fence, and a worker that dies leaves nothing behind.
 *
 * It takes plain chunks and leaves the others to a claim, which makes the same rows by the same expressions (`declared.ts`).
 * It reports the first chunk that it left: so the drain knows what is next, and no chunk waits behind later ones. When it
 * fails, it does not look for the culprit: the drain claims the chunks, and the claim's batches find it.
 *
 * A trigger of the table, or a function in a default or a check, may change settings of the session, such as its role. For
 * such a table the statement runs in a transaction of its own, after which the session is reset.
 *
 * A worker with little to do finds one chunk at a time. For that there is a smaller statement (`insideOne.ts`).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import type { ChunkStore, ChunkStoreError, Inside, InsideRequest } from "../../ChunkStore.ts"
import type { Declaration } from "../../Declaration.ts"
import { limitOf } from "./client.ts"
import { noAnswer } from "./connection.ts"
import * as Contact from "./contact.ts"
import type { Compiled } from "./declared.ts"
import type { Engine } from "./engine.ts"
import { asStoreError, tooLong } from "./errors.ts"
import { isOne, persistOne } from "./insideOne.ts"
import { unpacked } from "./insidePacked.ts"
import { persistMany, type Said } from "./insideStatement.ts"
import { longestOf } from "./longest.ts"
import type * as LowWater from "./lowWater.ts"
import { type Limit, unlessLocked } from "./tableLock.ts"
import type { Tables } from "./tables.ts"

/** Whether the statement can express a declaration: one table, with a row for each answer or for each element. */
export const canRunInside = ({ children, inner }: Declaration): boolean => children.length === 0 && inner === undefined

const leftOf = ([, , , , left, scheduled]: Said): Inside["left"] => {
  if (scheduled) return "other"
  if (left === null) return undefined
  const [namespace, schemaIdentity, version, fingerprint, isPlain] = left
  return isPlain && fingerprint !== null ? { namespace, schemaIdentity, version, fingerprint } : "other"
}

/** Sends a statement that writes the table. If that runs code of the application, the session is reset afterwards. */
export const resettingAfter = <A>({ client }: Tables, { runsCode }: Compiled, sent: Effect.Effect<A, SqlError>) =>
  runsCode
    ? client.transaction(({ lease }) => {
      lease?.noteAll()
      return sent
    })
    : sent

/** The verb. */
export const persistInside = (
  { claiming: { lowWater }, close, compiling, contact, hint, settings, t }: Engine
): ChunkStore["Service"]["persistInside"] => {
  const longest = longestOf(t.sql, settings)
  const usual = limitOf(t.sql, settings.statementTimeout)

  const limitFor = (timeout: Duration.Duration): Limit<never, SqlError | ChunkStoreError> =>
    Duration.isLessThan(timeout, usual)
      ? { duration: timeout, orElse: () => Effect.fail(tooLong(timeout)) }
      : { duration: usual, orElse: () => noAnswer(usual, "persistInside") }

  const look = Effect.fnUntraced(function*(request: InsideRequest, mark: LowWater.Mark | undefined) {
    const { parent: compiled } = yield* compiling.evenDoubted(request.declaration)
    const began = yield* Contact.here
    const options = {
      ready: mark === undefined ? {} : { after: mark.place },
      judged: contact.judged(began) / 1000,
      longest
    }
    const persist = isOne(request, compiled) ? persistOne : persistMany
    const sent = persist(t, request, compiled, options)
    const rows = yield* resettingAfter(t, compiled, sent)
    // the statement produces only this JSON
    const said = JSON.parse(rows[0]?.[0] ?? "null") as Said
    const [serverTime, markTime, markSeq, ended, , , ends] = said
    contact.heard(serverTime, began)
    const chunks = rows.flatMap(([, , packed]) => packed === null ? [] : unpacked(request, packed))
    const left = leftOf(said)
    // The mark never passes a chunk that was left. `began: now`: this statement's time is not that of a scan.
    if (left === undefined) {
      const place = markTime === null || markSeq === null ? undefined : { time: markTime, seq: BigInt(markSeq) }
      const now = yield* Contact.here
      lowWater.move(request.namespace, { mark, reached: { place, ended }, rows: chunks.length, began: now, now })
    }
    const last = ended && left === undefined && (mark === undefined || mark.ended)
    return { inside: { chunks, left, ended, last } satisfies Inside, ends }
  })

  return Effect.fnUntraced(function*(request) {
    const isNested = Option.isSome(yield* Effect.serviceOption(t.sql.transactionService))
    if (isNested || !canRunInside(request.declaration)) return undefined
    const mark = lowWater.from(request.namespace, yield* Contact.here, request.hasty === true)
    const looking = look(request, mark).pipe(
      Effect.tapError((error) => Effect.sync(() => compiling.failed(request.declaration, error))),
      // the handler fails on a claim in the same way, which reports it
      Effect.catchTag("TableUnfit", () => Effect.undefined),
      t.client.limited,
      // around a begin and a commit as well, where the client needs these
      unlessLocked(t, request.declaration, limitFor(request.timeout)),
      asStoreError,
      Effect.tapErrorTag("TableLocked", (error) => Effect.sync(() => compiling.failed(request.declaration, error)))
    )
    const looked = yield* Effect.interruptible(looking)
    if (looked === undefined) return undefined
    const { ends, inside } = looked
    if (inside.chunks.some(({ objects }) => objects.length > 0)) yield* hint("events")
    if (ends && inside.chunks.length > 0) yield* close(inside.chunks.map(({ key }) => key.callId))
    return inside
  }, Effect.uninterruptible)
}
