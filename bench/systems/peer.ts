/**
 * What the peers share: the statements of their handlers, so that all do the same work, and the count of what was done.
 */
import * as fs from "node:fs"
import { findPackageJSON } from "node:module"
import { Client, type ClientBase } from "pg"
import type { Call } from "../work.ts"
import type { Running } from "./system.ts"

/** The version of a package that is installed. */
export const versionOf = (name: string): string => {
  const file = findPackageJSON(name, import.meta.url)
  if (file === undefined) throw new Error(`${name} is not installed`)
  return (JSON.parse(fs.readFileSync(file, "utf8")) as { readonly version: string }).version
}

const handler = "'bench/message'"

// the ledger row first, with the id the domain row will have: a call that was done before makes no second domain row
const fusedText = `
  with kept as (
    insert into bench.ledger (call_id, handler, object_id)
    values ($1, ${handler}, nextval('bench.message_id_seq'))
    on conflict do nothing
    returning call_id, object_id
  )
  insert into bench.message (id, call_id, role, content, metadata) overriding system value
  select object_id, call_id, $2, $3, $4::jsonb from kept`

const messageText = `
  insert into bench.message (call_id, role, content, metadata)
  values ($1, $2, $3, $4::jsonb) returning id`

const ledgerText = `
  insert into bench.ledger (call_id, handler, object_id)
  values ($1, ${handler}, $2) on conflict do nothing`

const batchText = `
  with made as (
    insert into bench.message (call_id, role, content, metadata)
    select call_id, role, content, metadata::jsonb
    from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as given(call_id, role, content, metadata)
    returning id, call_id
  )
  insert into bench.ledger (call_id, handler, object_id)
  select call_id, ${handler}, id from made`

/** A statement and its values. */
export interface Statement {
  readonly name: string
  readonly text: string
  readonly values: Array<unknown>
}

const messageValues = ({ callId, payload }: Call) => [
  callId,
  payload.role,
  payload.content,
  JSON.stringify(payload.metadata)
]

/** The domain row and the ledger row of a call in one statement. */
export const fused = (call: Call): Statement => ({ name: "fused", text: fusedText, values: messageValues(call) })

/** The domain rows and the ledger rows of a batch in one statement. */
export const batched = (calls: ReadonlyArray<Call>): Statement => ({
  name: "batched",
  text: batchText,
  values: [
    calls.map((call) => call.callId),
    calls.map((call) => call.payload.role),
    calls.map((call) => call.payload.content),
    calls.map((call) => JSON.stringify(call.payload.metadata))
  ]
})

/** The domain row and the ledger row of a call, one statement each, in a transaction of their own. */
export const inTransaction = async (client: ClientBase, call: Call): Promise<void> => {
  await client.query("begin")
  try {
    const message = await client.query<{ id: string }>({
      name: "message",
      text: messageText,
      values: messageValues(call)
    })
    const kept = await client.query({
      name: "ledger",
      text: ledgerText,
      values: [call.callId, message.rows[0]?.id]
    })
    // none kept: the call was done before
    await client.query(kept.rowCount === 1 ? "commit" : "rollback")
  } catch (error) {
    await client.query("rollback")
    throw error
  }
}

/** Counts what handlers have done. */
export interface Countdown {
  /** Counts `n` once `work` has succeeded; a failure fails the drain, for no record here is meant to fail. */
  readonly track: <A>(n: number, work: Promise<A>) => Promise<A>
  readonly fail: (error: unknown) => void
  /** Resolves when all are counted. */
  readonly reached: Promise<void>
}

/** Counts down from `count`. */
export const countdown = (count: number): Countdown => {
  const { promise, reject, resolve } = Promise.withResolvers<void>()
  // whoever waits for it may come later than a failure
  promise.catch(() => {})
  let left = count
  if (left <= 0) resolve()
  return {
    track: async (n, work) => {
      try {
        const result = await work
        left -= n
        if (left <= 0) resolve()
        return result
      } catch (error) {
        reject(error)
        throw error
      }
    },
    fail: reject,
    reached: promise
  }
}

/** Fails a drain that has not added, for each record, one domain row and one ledger row. */
export const checked = async (url: string, running: Running): Promise<Running> => {
  const client = new Client({ connectionString: url })
  await client.connect()
  const look = async () => {
    const { rows: [row] } = await client.query<{ messages: number; kept: number }>(`
      select (select count(*)::int from bench.message) as messages, (select count(*)::int from bench.ledger) as kept`)
    return { messages: row?.messages ?? 0, kept: row?.kept ?? 0 }
  }
  let before = await look()
  return {
    fill: running.fill,
    drain: async (count) => {
      await running.drain(count)
      const now = await look()
      const messages = now.messages - before.messages
      const kept = now.kept - before.kept
      before = now
      if (messages < count || kept !== messages) {
        throw new Error(`draining ${count} made ${messages} domain rows and ${kept} ledger rows`)
      }
    },
    close: async () => {
      await running.close()
      await client.end()
    }
  }
}
