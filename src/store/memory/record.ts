/**
 * Phase 1 in memory: equal to `store/pg/record.ts` and `store/pg/begin.ts`.
 */
import * as DateTime from "effect/DateTime"
import type { FoundCall } from "../../CallAttempt.ts"
import type { Recording, RecordOutcome, RunEnd } from "../../ChunkStore.ts"
import { callJson, plainOutput } from "../../internal/callJson.ts"
import { sameJson } from "../../internal/sameJson.ts"
import type { CallSpec, ServiceCall } from "../../ServiceCall.ts"
import type { UsageEntry } from "../../Usage.ts"
import type { Access } from "../MemoryDatabase.ts"
import { open } from "./callEnd.ts"
import { type CallRow, calls, copy, queue, rankOf, seqKey, untouched, usage } from "./rows.ts"

/** Copies the facts, the only part of an attempt that a caller could change. */
export const copyAttempts = (attempts: Recording["attempts"] = []) =>
  attempts.map((attempt) => ({ ...attempt, facts: copy(attempt.facts) }))

const millis = (time: DateTime.Utc | undefined): number | undefined => time && DateTime.toEpochMillis(time)

const toRow = (call: CallSpec, now: number, before: CallRow | undefined): CallRow => ({
  callId: call.callId,
  namespace: call.namespace,
  service: call.service,
  correlationId: call.correlationId ?? call.callId,
  status: "running",
  context: copy(call.context ?? {}),
  input: copy(call.input ?? null),
  details: copy(call.details),
  facts: copy(call.facts ?? {}),
  trace: call.trace,
  attempts: before?.attempts ?? [],
  outputs: undefined,
  error: undefined,
  orderingKey: call.orderingKey,
  priority: call.orderingKey === undefined ? call.priority ?? 0 : 0,
  notBefore: millis(call.notBefore),
  runToken: undefined,
  runUntil: undefined,
  startedAt: millis(call.startedAt),
  finishedAt: undefined,
  recordedAt: now,
  erasure: undefined
})

const isSameQuestion = (row: CallRow, call: CallSpec): boolean =>
  row.namespace === call.namespace && row.service === call.service && row.orderingKey === call.orderingKey &&
  sameJson(row.context, call.context ?? {})

const isSameInput = (row: CallRow, call: CallSpec): boolean => sameJson(row.input, call.input ?? null)

/** Times, details and trace may differ. Pruned input and results cannot be compared and count as the same. */
const isSame = (row: CallRow, call: ServiceCall): boolean =>
  isSameQuestion(row, call) &&
  (row.outputs === undefined || (isSameInput(row, call) && sameJson(row.outputs, copy(call.outputs.map(plainOutput)))))

/** Adds to the usage. */
export const addUsage = (
  access: Access,
  { finishedAt, namespace, recordedAt }: Pick<CallRow, "finishedAt" | "namespace" | "recordedAt">,
  entries: ReadonlyArray<UsageEntry> = [],
  id: number
): void => {
  for (const [n, entry] of entries.entries()) {
    access.set(usage, `${id}/${n}`, { ...entry, namespace, at: finishedAt ?? recordedAt })
  }
}

/**
 * The numbers of a recording: `seqs` give each of its chunks its place in the order of recording, `id` is that of its usage.
 */
export interface Numbers {
  readonly seqs: ReadonlyArray<number>
  readonly id: number
}

/** Records a call unless it exists. */
export const record = (access: Access, call: Recording, now: number, { id, seqs }: Numbers): RecordOutcome => {
  const before = access.get(calls, call.callId)
  if (before?.erasure !== undefined) return "erased"
  if (before?.status === "succeeded") return isSame(before, call) ? "unchanged" : "conflict"
  const { bytes, context, input, outputs, shared } = callJson(call)
  const row: CallRow = {
    ...toRow(call, now, before),
    context: JSON.parse(context),
    input: input === "" ? null : JSON.parse(input),
    attempts: [...before?.attempts ?? [], ...copyAttempts(call.attempts)],
    status: "succeeded",
    outputs: outputs.map((text) => JSON.parse(text)),
    finishedAt: millis(call.finishedAt) ?? now
  }
  access.set(calls, call.callId, row)
  open(access, call.callId)
  addUsage(access, row, call.usage, id)
  const dueAt = Math.max(now, row.notBefore ?? now)
  for (const [position, output] of call.outputs.entries()) {
    const seq = seqs[position]!
    access.set(
      queue,
      seqKey(seq),
      untouched({
        seq,
        key: { callId: call.callId, schemaIdentity: output.schema, part: output.part ?? "" },
        namespace: call.namespace,
        schemaVersion: output.version,
        position,
        bytes: bytes[position] ?? 0,
        sharedBytes: shared,
        orderingKey: call.orderingKey,
        priority: row.priority,
        dueAt,
        rank: rankOf(dueAt, row.priority),
        state: dueAt > now ? "scheduled" : "ready",
        recordedAt: now
      })
    )
  }
  return "recorded"
}

/** Records the answer of an invalid call. */
export const recordDecoded = (access: Access, call: Recording, now: number, numbers: Numbers): boolean => {
  const { erasure, status = "invalid" } = access.get(calls, call.callId) ?? {}
  return status === "invalid" && erasure === undefined && record(access, call, now, numbers) === "recorded"
}

/**
 * Takes the call for this run if it is new, has failed, or its run died. A call without an answer may
 * be begun again with other content. Otherwise returns the row as it was, unless it belongs to another call.
 */
export const begin = (
  access: Access,
  call: CallSpec,
  now: number,
  token: string,
  until: number
): { readonly takenOver: boolean } | CallRow | "conflict" | "erased" => {
  const before = access.get(calls, call.callId)
  if (before?.erasure !== undefined) return "erased"
  const free = before === undefined || before.status === "failed" || before.status === "invalid" ||
    (before.status === "running" && (before.runUntil ?? 0) < now)
  if (!free) {
    const pruned = before.status === "succeeded" && before.outputs === undefined
    return isSameQuestion(before, call) && (pruned || isSameInput(before, call)) ? before : "conflict"
  }
  access.set(calls, call.callId, {
    ...toRow(call, before?.recordedAt ?? now, before),
    status: "running",
    error: undefined,
    runToken: token,
    runUntil: until,
    startedAt: now
  })
  return { takenOver: before !== undefined }
}

/** Extends the lease of a run or a repair. */
export const renewRun = (access: Access, callId: string, token: string, runUntil: number): boolean => {
  const row = access.get(calls, callId)
  if (row?.runToken !== token) return false
  access.set(calls, callId, { ...row, runUntil })
  return true
}

/** Changes a running call if this token still holds the run. */
const changeRun = (
  access: Access,
  callId: string,
  token: string,
  change: (row: CallRow) => Partial<CallRow>
): boolean => {
  const row = access.get(calls, callId)
  if (row === undefined || row.status !== "running" || row.runToken !== token) return false
  access.set(calls, callId, { ...row, ...change(row) })
  return true
}

/** Adds the attempts of a run that no longer holds its call, unless they are there already. */
const addLate = (access: Access, callId: string, { attempts = [], usage }: RunEnd, now: number, id: number): void => {
  const row = access.get(calls, callId)
  const [first] = attempts
  if (row === undefined || first === undefined) return
  const isErased = row.erasure !== undefined
  const isThere = row.attempts.some(({ at, text }) =>
    DateTime.Equivalence(at, first.at) && (isErased || text === first.text)
  )
  if (isThere) return
  const late = copyAttempts(attempts).map((one) => isErased ? { ...one, text: null, error: null } : one)
  access.set(calls, callId, { ...row, attempts: [...row.attempts, ...late] })
  addUsage(access, { ...row, finishedAt: now }, usage, id)
}

/** Ends a run without outputs. */
export const abandon = (
  access: Access,
  callId: string,
  token: string,
  end: RunEnd | undefined,
  now: number,
  id: number
): void => {
  const isHeld = changeRun(access, callId, token, (row) =>
    end === undefined
      ? { runUntil: now - 1000 }
      : {
        status: end.status,
        error: end.error,
        facts: copy(end.facts ?? {}),
        attempts: [...row.attempts, ...copyAttempts(end.attempts)],
        runToken: undefined,
        runUntil: undefined,
        finishedAt: now
      })
  const row = access.get(calls, callId)
  if (isHeld && row !== undefined) addUsage(access, row, end?.usage, id)
  else if (end !== undefined) addLate(access, callId, end, now, id)
}

/** A call in its recorded form. */
export const toCall = (row: CallRow): ServiceCall => ({
  callId: row.callId,
  namespace: row.namespace,
  service: row.service,
  correlationId: row.correlationId,
  context: copy(row.context),
  ...(row.input === null ? {} : { input: copy(row.input) }),
  ...(Object.keys(row.facts).length === 0 ? {} : { facts: copy(row.facts) }),
  ...(row.details === undefined ? {} : { details: copy(row.details) }),
  outputs: copy(row.outputs ?? []),
  ...(row.orderingKey === undefined ? {} : { orderingKey: row.orderingKey }),
  ...(row.priority === 0 ? {} : { priority: row.priority }),
  ...(row.trace === undefined ? {} : { trace: row.trace }),
  ...(row.notBefore === undefined ? {} : { notBefore: DateTime.makeUnsafe(row.notBefore) }),
  ...(row.startedAt === undefined ? {} : { startedAt: DateTime.makeUnsafe(row.startedAt) }),
  ...(row.finishedAt === undefined ? {} : { finishedAt: DateTime.makeUnsafe(row.finishedAt) })
})

/** A call with its status and attempts. */
export const find = (access: Access, callId: string): FoundCall | undefined => {
  const row = access.get(calls, callId)
  if (row === undefined) return undefined
  return { call: toCall(row), status: row.status, error: row.error, attempts: copyAttempts(row.attempts) }
}
