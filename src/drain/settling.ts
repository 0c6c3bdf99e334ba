/** Gives the chunks of a claim their outcome: persisted, charged, parked, buried, or given back. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { ChunkStore, type ChunkStoreError, type ClaimedChunk, type Settled, Settlement } from "../ChunkStore.ts"
import { TableLocked } from "../Declaration.ts"
import { printKey } from "../ServiceCall.ts"
import type { Committed } from "./batch.ts"
import type { Engine } from "./engine.ts"
import { type Charge, errorIn, failureKind, toSettlement } from "./failure.ts"
import type { Held } from "./held.ts"
import { orderingKeyOf } from "./orderingKey.ts"
import { Outcome } from "./Outcome.ts"
import { buried, type Prepared, Undecodable } from "./prepare.ts"

/** The operations that give the chunks of one claim their outcome. */
export type Settling = Effect.Success<ReturnType<typeof make>>

/** What the operations on one claim share. */
interface Own {
  readonly engine: Engine
  readonly store: ChunkStore["Service"]
  readonly held: Held
  readonly blocked: ReturnType<typeof makeBlocked>
}

const settleAll = Effect.fnUntraced(function*(
  { blocked, held, store }: Own,
  settlements: ReadonlyArray<Settlement>,
  causes?: ReadonlyMap<ClaimedChunk, Cause.Cause<unknown>>
) {
  const settled = yield* settleOrPart(store, held.claim.token, settlements)
  const applied = new Map(settled.map((one) => [one.settlement, one]))
  for (const settlement of settlements) {
    const settled = applied.get(settlement)
    if (!makesWay(settlement, settled)) blocked.add(settlement.chunk)
    held.end(settlement.chunk, outcomeOf(settlement, settled, causes?.get(settlement.chunk)))
  }
})

const withoutLedger = Effect.fnUntraced(function*<A extends WithChunk>(own: Own, list: ReadonlyArray<A>) {
  const entries = yield* own.store.ledger(list.map((one) => one.chunk.key))
  const ledger = new Set(entries.map((entry) => printKey(entry.key)))
  const isPersisted = (one: A) => ledger.has(printKey(one.chunk.key))
  const persisted = list.filter(isPersisted)
  if (persisted.length > 0) yield* settleAll(own, persisted.map(({ chunk }) => Settlement.Already({ chunk })))
  return list.filter((one) => !isPersisted(one))
})

/** For one claim. */
export const make = Effect.fnUntraced(function*(engine: Engine, held: Held) {
  const store = yield* ChunkStore
  const { token } = held.claim
  const blocked = makeBlocked()
  const own: Own = { engine, store, held, blocked }
  // charges that are committed together at the end of a round
  const due: Array<Charge> = []

  const settle = (
    settlements: ReadonlyArray<Settlement>,
    causes?: ReadonlyMap<ClaimedChunk, Cause.Cause<unknown>>
  ) => settlements.length === 0 ? Effect.void : settleAll(own, settlements, causes)

  /** Settles the chunks that are in the ledger: their handlers' errors do not count as failures. Returns the others. */
  const withoutPersisted = <A extends WithChunk>(list: ReadonlyArray<A>) =>
    list.length === 0 ? Effect.succeed(list) : withoutLedger(own, list)

  const release = (members: ReadonlyArray<WithChunk>) =>
    settle(members.map(({ chunk }) => Settlement.Release({ chunk })))

  /** Charges all pending failures, in one commit. */
  const chargeDue = Effect.suspend(() => due.length === 0 ? Effect.void : chargeAll(due.splice(0)))
  const chargeAll = (charges: ReadonlyArray<Charge>) =>
    Effect.flatMap(
      withoutPersisted(charges.map((charge) => ({ ...charge, chunk: charge.one.chunk }))),
      (rest) =>
        Effect.flatMap(
          Effect.forEach(rest, (charge) => settlementOf(engine, charge)),
          (settlements) => settle(settlements, new Map(rest.map(({ cause, chunk }) => [chunk, cause])))
        )
    )

  /** Charges a chunk; immediately if it blocks its ordering key, so no later chunk of the key is tried in vain. */
  const charge = (charge: Charge) =>
    Effect.suspend(() => {
      due.push(charge)
      return charge.one.chunk.orderingKey === undefined ? Effect.void : chargeDue
    })

  return {
    settle,
    withoutPersisted,
    charge,
    chargeDue,
    release,
    /** Gives chunks back once no transaction outside the drain locks them. */
    releaseLater: (members: ReadonlyArray<WithChunk>) =>
      Effect.suspend(() => {
        const chunks = members.map(({ chunk }) => chunk)
        for (const chunk of chunks) {
          blocked.add(chunk)
          held.end(chunk, Outcome.Settled({ settlement: Settlement.Release({ chunk }), cause: undefined }))
        }
        return chunks.length === 0 ? Effect.void : engine.releases.later(token, chunks)
      }),
    /** Gives back the chunks that are behind an unpersisted one of their ordering key. Returns the others. */
    withoutBlocked: (members: ReadonlyArray<Prepared>) =>
      Effect.as(release(members.filter(blocked.has)), members.filter((one) => !blocked.has(one))),
    /**
     * Notes the outcomes of a batch, and charges the chunks that failed before they had written anything. What is persisted
     * is announced after the commit, which may be that of a caller's transaction.
     */
    commit: ({ failedUnsent, persisted }: Committed) =>
      Effect.suspend(() => {
        for (const line of persisted) held.end(line.chunk, Outcome.Persisted({ persisted: line }))
        return failedUnsent.size === 0 ? Effect.void : Effect.forEach(
          failedUnsent,
          ([one, cause]) => charge({ one, cause, kind: failureKind(cause) }),
          { discard: true }
        )
      })
  }
})

/**
 * How a failure is settled. No attempt is charged for an output that does not decode, or if the handler cannot run in this
 * process, or not now.
 */
const settlementOf = Effect.fnUntraced(function*(
  { rests, settings, unfit }: Engine,
  charge: Charge
): Effect.fn.Return<Settlement> {
  const { cause, one: { chunk, handler } } = charge
  const undecodable = errorIn(cause, Undecodable)
  if (undecodable?.chunk === chunk) return buried(undecodable, handler)
  const locked = errorIn(cause, TableLocked)
  if (locked !== undefined) {
    yield* rests.begin(handler, locked)
    return Settlement.Release({ chunk })
  }
  if (yield* unfit.learn(handler, cause)) return Settlement.Park({ chunk, reason: "no-handler" })
  return yield* toSettlement(charge, settings)
})

/**
 * Whether the later chunks of the ordering key may go. A chunk in the ledger is persisted, even if its queue row is gone.
 */
const makesWay = (settlement: Settlement, settled: Settled | undefined): boolean =>
  settlement._tag === "Already" || settled?.freesKey === true

const outcomeOf = (settlement: Settlement, settled: Settled | undefined, cause: Cause.Cause<unknown> | undefined) =>
  settled === undefined && settlement._tag !== "Already" ? Outcome.Lost() : Outcome.Settled({ settlement, cause })

interface WithChunk {
  readonly chunk: ClaimedChunk
}

/** The oldest unpersisted chunk of each ordering key: no later one may run now. */
const makeBlocked = () => {
  const oldest = new Map<string, bigint>()
  return {
    add: (chunk: ClaimedChunk) => {
      const orderingKey = orderingKeyOf(chunk)
      const { seq } = chunk
      if (orderingKey === undefined) return
      const before = oldest.get(orderingKey)
      if (before === undefined || seq < before) oldest.set(orderingKey, seq)
    },
    has: ({ chunk }: WithChunk): boolean => {
      const orderingKey = orderingKeyOf(chunk)
      const at = orderingKey === undefined ? undefined : oldest.get(orderingKey)
      return at !== undefined && at < chunk.seq
    }
  }
}

/**
 * Settles chunks; when the database refuses several, settles each alone. If it refuses a single one, that is settled
 * without its message, which may contain characters that the database cannot store: it must not be retried without end,
 * or keep the others from being settled.
 */
const settleOrPart = (
  store: ChunkStore["Service"],
  token: string,
  settlements: ReadonlyArray<Settlement>
): Effect.Effect<ReadonlyArray<Settled>, ChunkStoreError> =>
  Effect.catchIf(store.settle(token, settlements), (error) => !error.transient, (error) => {
    const [only] = settlements
    if (settlements.length > 1) {
      return Effect.map(
        Effect.forEach(settlements, (one) => settleOrPart(store, token, [one])),
        (settled) => settled.flat()
      )
    }
    if (only === undefined || !("failure" in only)) return Effect.fail(error)
    const message = `the failure could not be stored: ${error.code ?? "no code"}`
    const plain = { ...only, failure: { ...only.failure, message } }
    return Effect.map(store.settle(token, [plain]), (settled) => settled.map((one) => ({ ...one, settlement: only })))
  })
