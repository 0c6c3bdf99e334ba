/**
 * Phase 1 in memory: equal to `store/pg/record.ts` and `store/pg/begin.ts`.
 */
import * as DateTime from "effect/DateTime"
import type { RecordOutcome } from "../../ChunkStore.ts"
import { callJson, plainOutput } from "../../internal/callJson.ts"
import { sameJson } from "../../internal/sameJson.ts"
import type { CallSpec, ServiceCall } from "../../ServiceCall.ts"
import type { Access } from "../MemoryDatabase.ts"
import { type CallRow, calls, copy, queue, rankOf, seqKey, untouched } from "./rows.ts"

const millis = (time: DateTime.Utc | undefined): number | undefined => time && DateTime.toEpochMillis(time)

const toRow = (call: CallSpec, now: number): CallRow => ({
  callId: call.callId,
  namespace: call.namespace,
  service: call.service,
  correlationId: call.correlationId ?? call.callId,
  status: "running",
  context: copy(call.context ?? {}),
  input: copy(call.input ?? null),
  details: copy(call.details),
  trace: call.trace,
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

/** Records a call unless it exists. `seqs` gives each of its chunks its place in the order of recording. */
export const record = (access: Access, call: ServiceCall, now: number, seqs: ReadonlyArray<number>): RecordOutcome => {
  const before = access.get(calls, call.callId)
  if (before?.erasure !== undefined) return "erased"
  if (before?.status === "succeeded") return isSame(before, call) ? "unchanged" : "conflict"
  const row: CallRow = {
    ...toRow(call, now),
    status: "succeeded",
    outputs: copy(call.outputs.map(plainOutput)),
    finishedAt: millis(call.finishedAt) ?? now
  }
  access.set(calls, call.callId, row)
  const dueAt = Math.max(now, row.notBefore ?? now)
  const { bytes, shared } = callJson(call)
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
  const free = before === undefined || before.status === "failed" ||
    (before.status === "running" && (before.runUntil ?? 0) < now)
  if (!free) {
    const pruned = before.status === "succeeded" && before.outputs === undefined
    return isSameQuestion(before, call) && (pruned || isSameInput(before, call)) ? before : "conflict"
  }
  access.set(calls, call.callId, {
    ...toRow(call, before?.recordedAt ?? now),
    status: "running",
    error: undefined,
    runToken: token,
    runUntil: until,
    startedAt: now
  })
  return { takenOver: before !== undefined }
}

/** Changes a running call if this token still holds the run. */
export const changeRun = (
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
