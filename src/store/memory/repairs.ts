/**
 * Repairs of rejected answers in memory: equal to `store/pg/repairs.ts`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { ChunkStoreError } from "../../ChunkStore.ts"
import type { DeadLetters, Repair, RepairEnd } from "../../DeadLetters.ts"
import { repairNote } from "../../internal/repairNote.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import type { Access, MemoryDatabase } from "../MemoryDatabase.ts"
import { redrive } from "./deadLetters.ts"
import { addUsage, copyAttempts, toCall } from "./record.ts"
import { type CallRow, calls, chunkKey, copy, dead, type DeadRow, failures, type Use } from "./rows.ts"
import type { Gone } from "./waiting.ts"

const rejectedLetter = (access: Access, key: ChunkKey): DeadRow | undefined => {
  const row = access.get(dead, chunkKey(key))
  return row?.reason === "rejected" && row.discarded === undefined ? row : undefined
}

/** How often an answer was asked for again. */
const repairs = (access: Access, key: ChunkKey): number =>
  access.values(failures).filter((row) => row.kind === "rejected" && chunkKey(row.key) === chunkKey(key)).length

const begin = (
  access: Access,
  key: ChunkKey,
  now: number,
  { most, token, until }: { readonly most: number; readonly token: string; readonly until: number }
): Option.Option<Repair> => {
  const row = access.get(calls, key.callId)
  if (row === undefined || row.status !== "succeeded" || row.erasure !== undefined) return Option.none()
  if ((row.runUntil ?? -Infinity) >= now) return Option.none()
  const letter = rejectedLetter(access, key)
  const output = letter === undefined ? undefined : row.outputs?.[letter.position]
  if (letter === undefined || output === undefined || repairs(access, key) >= most) return Option.none()
  access.set(calls, key.callId, { ...row, runToken: token, runUntil: until })
  return Option.some({ token, call: toCall(row), output: copy(output), reason: letter.message })
}

/** The call with the new answer in the place of the letter's. */
const replaced = (row: CallRow, { position }: DeadRow, output: NonNullable<RepairEnd["output"]>): Partial<CallRow> => ({
  outputs: row.outputs?.map((one, place) => place === position ? { ...one, ...copy({ ...output }) } : one)
})

const bytesOf = (json: unknown): number => Buffer.byteLength(JSON.stringify(json) ?? "")

interface Numbers {
  readonly usage: number
  readonly failure: number
}

/** Returns the letter that was redriven, and whether it blocks its ordering key no longer. */
const end = (access: Access, key: ChunkKey, now: number, token: string, end: RepairEnd, ids: Numbers) => {
  const row = access.get(calls, key.callId)
  if (row === undefined || row.runToken !== token || row.status !== "succeeded") return undefined
  const letter = rejectedLetter(access, key)
  const { output } = end
  const changed: CallRow = {
    ...row,
    ...(letter === undefined || output === undefined ? {} : replaced(row, letter, output)),
    attempts: [...row.attempts, ...copyAttempts(end.attempts)],
    runToken: undefined,
    runUntil: undefined
  }
  access.set(calls, key.callId, changed)
  addUsage(access, { ...row, finishedAt: now }, end.usage, ids.usage)
  if (letter === undefined) return undefined
  const message = repairNote(end)
  if (message !== undefined) {
    const { attempts: attempt, handler } = letter
    const id = ids.failure * 1_000_000
    access.set(failures, String(id), { id, key, at: now, attempt, handler, kind: "rejected", message })
  }
  if (output === undefined) return undefined
  const bytes = letter.bytes + bytesOf(changed.outputs?.[letter.position]) - bytesOf(row.outputs?.[letter.position])
  const mended = { ...letter, schemaVersion: output.version, bytes }
  return { letter, isFree: redrive(access, mended, now) }
}

/**
 * The verbs. They wake what waits behind a letter that blocks its key no longer, and run `moved` when a chunk is claimable.
 */
export const make = (
  db: MemoryDatabase["Service"],
  use: Use,
  newToken: Effect.Effect<string>,
  wake: (gone: Gone) => Effect.Effect<void>,
  moved: Effect.Effect<void>
): Pick<DeadLetters["Service"], "beginRepair" | "endRepair"> => ({
  beginRepair: Effect.fnUntraced(function*(key, { lease, most }) {
    if (yield* db.inTransaction) {
      return yield* new ChunkStoreError({
        operation: "deadLetters.beginRepair",
        transient: false,
        reason: "a repair needs commits of its own. Begin it before or after the surrounding transaction"
      })
    }
    const token = yield* newToken
    return yield* use((access, now) => begin(access, key, now, { most, token, until: now + Duration.toMillis(lease) }))
  }),
  endRepair: Effect.fnUntraced(function*(key, token, ended) {
    const ids = { usage: yield* db.next("usage"), failure: yield* db.next("failure") }
    const done = yield* use((access, now) => end(access, key, now, token, ended, ids))
    if (done === undefined) return false
    if (done.isFree) yield* wake([done.letter])
    yield* moved
    return true
  })
})
