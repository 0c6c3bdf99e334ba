/**
 * Erasure in memory: equal to `store/pg/erasure.ts`.
 */
import * as Effect from "effect/Effect"
import { type Erased, Erasure, type ErasureRecord, type Subject } from "../../Erasure.ts"
import type { Access } from "../MemoryDatabase.ts"
import { utc } from "./read.ts"
import {
  type CallRow,
  calls,
  chunkKey,
  dead,
  type DeadRow,
  type ErasureRow,
  erasures,
  type FailureRow,
  failures,
  ledger,
  queue,
  type QueueRow,
  seqKey,
  type Use
} from "./rows.ts"
import type { Gone } from "./waiting.ts"

const textOf = (value: unknown): string | undefined => typeof value === "string" ? value : JSON.stringify(value)

const isOf = (row: CallRow, subject: Subject): boolean => {
  switch (subject._tag) {
    case "Call":
      return row.callId === subject.callId
    case "Correlation":
      return row.correlationId === subject.correlationId
    case "Context":
      return Object.hasOwn(row.context, subject.key) && row.context[subject.key] !== null &&
        textOf(row.context[subject.key]) === subject.value
  }
}

/** The rows of a subject's calls. */
interface Found {
  readonly calls: ReadonlyArray<CallRow>
  readonly chunks: ReadonlyArray<QueueRow>
  readonly letters: ReadonlyArray<DeadRow>
  readonly failures: ReadonlyArray<FailureRow>
  readonly erased: Erased
}

const find = (access: Access, subject: Subject): Found => {
  const found = access.values(calls).filter((row) => row.erasure === undefined && isOf(row, subject))
  const ids = new Set(found.map(({ callId }) => callId))
  const ofThem = (row: { readonly key: { readonly callId: string } }) => ids.has(row.key.callId)
  const rows = {
    calls: found,
    chunks: access.values(queue).filter(ofThem),
    letters: access.values(dead).filter(ofThem),
    failures: access.values(failures).filter(ofThem)
  }
  return {
    ...rows,
    erased: {
      calls: rows.calls.length,
      chunks: rows.chunks.length,
      deadLetters: rows.letters.length,
      failures: rows.failures.length,
      objects: access.values(ledger).filter(ofThem).flatMap((line) => line.objects)
    }
  }
}

const forget = (access: Access, found: Found, erasure: ErasureRow): void => {
  access.set(erasures, String(erasure.id), erasure)
  for (const row of found.chunks) access.delete(queue, seqKey(row.seq))
  for (const row of found.letters) access.delete(dead, chunkKey(row.key))
  for (const row of found.failures) access.delete(failures, String(row.id))
  for (const row of found.calls) {
    access.set(calls, row.callId, {
      ...row,
      erasure: erasure.id,
      input: null,
      outputs: undefined,
      details: undefined,
      error: undefined,
      trace: undefined,
      attempts: row.attempts.map((attempt) => ({ ...attempt, text: null, error: null })),
      context: {},
      correlationId: row.callId,
      orderingKey: undefined,
      status: row.status === "running" ? "failed" : row.status,
      runToken: undefined,
      runUntil: undefined
    })
  }
}

const toRecord = (row: ErasureRow): ErasureRecord => ({
  ...row,
  begunAt: utc(row.begunAt),
  finishedAt: utc(row.finishedAt),
  contextKey: row.contextKey ?? null
})

/**
 * The service in memory. It calls `wake` with chunks and letters that no longer block their key, and runs `moved` when
 * chunks may have become claimable.
 */
export const make = (
  use: Use,
  nextId: Effect.Effect<number>,
  wake: (gone: Gone) => Effect.Effect<void>,
  moved: Effect.Effect<void>
): Erasure["Service"] =>
  Erasure.of({
    erase: Effect.fnUntraced(function*(subject, { because, by }) {
      const id = yield* nextId
      const { chunks, erased, letters } = yield* use((access, now) => {
        const found = find(access, subject)
        const { objects: _, ...counts } = found.erased
        if (counts.calls === 0) return found
        forget(access, found, {
          id,
          begunAt: now,
          finishedAt: now,
          by,
          because,
          subject: subject._tag === "Call" ? "call" : subject._tag === "Correlation" ? "correlation" : "context",
          contextKey: subject._tag === "Context" ? subject.key : undefined,
          ...counts
        })
        return found
      })
      yield* wake([...chunks, ...letters])
      if (chunks.length + letters.length > 0) yield* moved
      return erased
    }),
    preview: (subject) => use((access) => find(access, subject).erased),
    list: ({ limit }) =>
      use((access) => access.values(erasures).toSorted((a, b) => b.id - a.id).slice(0, limit).map(toRecord))
  })
