/**
 * Bugs, planted between what is paid for and the store. The simulation of answers must find each of them.
 */
import * as Effect from "effect/Effect"
import { calls, dead, queue, type QueueRow, seqKey, usage } from "../../src/store/memory/rows.ts"
import type { AnswerMutant } from "./answers.ts"

type Db = Parameters<AnswerMutant>[1]

const doubled = (db: Db, callIds: ReadonlyArray<string>) =>
  db.use((access) => {
    for (const entry of access.values(usage)) {
      access.set(usage, `${callIds} again ${access.values(usage).length}`, entry)
    }
  })

const forget = (db: Db, callId: string, fields: object) =>
  db.use((access) => {
    const row = access.get(calls, callId)
    if (row !== undefined) access.set(calls, callId, { ...row, ...fields })
  })

/** The bugs, by what is wrong. */
export const answerMutants: Readonly<Record<string, AnswerMutant>> = {
  "an erased call is recorded again": ({ store }, db) => ({
    store: {
      ...store,
      record: (list) =>
        Effect.andThen(
          Effect.forEach(list, ({ callId }) =>
            db.use((access) => {
              const row = access.get(calls, callId)
              if (row?.erasure !== undefined) {
                access.set(calls, callId, { ...row, erasure: undefined, status: "failed" })
              }
            })),
          store.record(list)
        )
    }
  }),
  "a call that is erased while it runs is recorded at its end": ({ store }, db) => ({
    store: {
      ...store,
      renewRun: (callId, token, lease) =>
        Effect.andThen(
          forget(db, callId, { erasure: undefined, runToken: token }),
          store.renewRun(callId, token, lease)
        ),
      record: (list) =>
        Effect.andThen(
          Effect.forEach(list, ({ attempts = [], callId }) =>
            attempts.length === 0 ? Effect.void : forget(db, callId, { erasure: undefined })),
          store.record(list)
        )
    }
  }),
  "usage is counted twice": ({ store }, db) => ({
    store: {
      ...store,
      record: (list) =>
        Effect.tap(
          store.record(list),
          (outcomes) => outcomes.includes("recorded") ? doubled(db, list.map(({ callId }) => callId)) : Effect.void
        )
    }
  }),
  "the usage of a call is counted again when it is delivered again": ({ store }, db) => ({
    store: {
      ...store,
      record: (list) =>
        Effect.tap(
          store.record(list),
          (outcomes) => outcomes.includes("unchanged") ? doubled(db, list.map(({ callId }) => callId)) : Effect.void
        )
    }
  }),
  "the answers of a failed run are lost": ({ store }) => ({
    store: {
      ...store,
      abandon: (callId, token, end) => store.abandon(callId, token, end && { ...end, attempts: [] })
    }
  }),
  "a run deletes the answers of earlier runs": ({ store }, db) => ({
    store: {
      ...store,
      begin: (call, lease) =>
        Effect.tap(
          store.begin(call, lease),
          ({ _tag }) => _tag === "Begun" ? forget(db, call.callId, { attempts: [] }) : Effect.void
        )
    }
  }),
  "the answers of a repair are lost": ({ letters }) => ({
    letters: { ...letters, endRepair: (key, token, end) => letters.endRepair(key, token, { ...end, attempts: [] }) }
  }),
  "an invalid call is stored as failed": ({ store }) => ({
    store: {
      ...store,
      abandon: (callId, token, end) => store.abandon(callId, token, end && { ...end, status: "failed" })
    }
  }),
  "facts are lost when payloads are pruned": ({ retention }, db) => ({
    retention: {
      ...retention,
      prune: (policy) =>
        Effect.tap(retention.prune(policy), () =>
          db.use((access) => {
            for (const row of access.values(calls)) access.set(calls, row.callId, { ...row, facts: {} })
          }))
    }
  }),
  "an element that does not decode deletes its siblings": ({ store }, db) => ({
    store: {
      ...store,
      settle: (token, settlements) =>
        Effect.tap(store.settle(token, settlements), () =>
          db.use((access) => {
            const buried = access.values(dead).filter(({ reason }) => reason === "undecodable")
            const isOf = ({ key }: QueueRow) => buried.some((letter) => letter.key.callId === key.callId)
            for (const row of access.values(queue)) if (isOf(row)) access.delete(queue, seqKey(row.seq))
          }))
    }
  }),
  "two programs repair one answer at the same time": ({ letters }, db) => ({
    letters: {
      ...letters,
      beginRepair: (key, options) =>
        Effect.andThen(forget(db, key.callId, { runUntil: undefined }), letters.beginRepair(key, options))
    }
  }),
  "an answer is repaired more often than its limit allows": ({ letters }) => ({
    letters: { ...letters, beginRepair: (key, options) => letters.beginRepair(key, { ...options, most: 9 }) }
  }),
  "a repaired answer does not replace the rejected one": ({ letters }) => ({
    letters: {
      ...letters,
      endRepair: (key, token, end) => letters.endRepair(key, token, { ...end, output: undefined, refused: "no" })
    }
  }),
  "a repair that lost its lease stores its answer": ({ letters }, db) => ({
    letters: {
      ...letters,
      endRepair: (key, token, end) =>
        Effect.andThen(forget(db, key.callId, { runToken: token }), letters.endRepair(key, token, end))
    }
  })
}
