/**
 * The work, the same for all systems: recorded calls wait, each with about 1 KB of JSON; draining one makes a domain row
 * from it, a row in a ledger, and an end to its entry in the queue, durably and once.
 */
import type { Sql } from "./harness/database.ts"

/** What the LLM answered: about 1 KB of JSON. */
export interface Payload {
  readonly role: "patient" | "doctor"
  readonly content: string
  readonly metadata: {
    readonly model: string
    readonly language: string
    readonly tokens: { readonly input: number; readonly output: number }
    readonly tags: ReadonlyArray<string>
    readonly rubric: ReadonlyArray<{ readonly key: string; readonly value: string }>
  }
}

/** A recorded call. */
export interface Call {
  readonly callId: string
  readonly payload: Payload
}

const words =
  ("the pain began on the inside of my knee after the fall and it hurts when I climb stairs or kneel down " +
    "there was some swelling on the first day no fever no numbness I took ibuprofen twice and it helped a little but at " +
    "night it wakes me when I turn over the other knee is fine and I had nothing like it before").split(" ")

// a generator of its own, so that every run has the same texts
const generator = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    return (state >> 8) % below
  }
}

const text = (random: (below: number) => number, length: number): string => {
  let written = ""
  while (written.length < length) written += `${words[random(words.length)]} `
  return written.slice(0, length)
}

const payload = (random: (below: number) => number, contentLength: number): Payload => ({
  role: random(2) === 0 ? "patient" : "doctor",
  content: text(random, contentLength),
  metadata: {
    model: "standardized-patient-3",
    language: "en",
    tokens: { input: 400 + random(400), output: 100 + random(100) },
    tags: ["knee", "trauma", "follow-up"],
    rubric: [
      { key: "onset", value: text(random, 60) },
      { key: "character", value: text(random, 60) }
    ]
  }
})

const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0")

/** A UUIDv7: ids that sort by time, as an application would make them. */
const uuid7 = (millis: number, n: number, random: (below: number) => number): string => {
  const time = hex(millis, 12)
  const low = hex(n % 0x1000, 3)
  return `${time.slice(0, 8)}-${time.slice(8)}-7${low}-8${hex(random(0x1000), 3)}-${hex(random(0x1000000), 6)}${
    hex(random(0x1000000), 6)
  }`
}

/** This many calls, from number `from` on; `contentLength` characters of content make the payload larger or smaller. */
export const calls = (from: number, count: number, contentLength = 600): ReadonlyArray<Call> => {
  const random = generator(from + 1)
  const start = 1_700_000_000_000
  return Array.from({ length: count }, (_, index) => {
    const n = from + index
    return { callId: uuid7(start + (n >> 12), n, random), payload: payload(random, contentLength) }
  })
}

/** The application's own table. */
export const domainTables = `
  create schema bench;
  create table bench.message (
    id bigint generated always as identity primary key,
    call_id text not null,
    role text not null,
    content text not null,
    metadata jsonb not null
  )`

/** The ledger for systems without one: it makes a second run of the same call a no-op. */
export const ledgerTable = `
  create table bench.ledger (
    call_id text collate "C" primary key,
    handler text not null,
    object_id bigint not null,
    persisted_at timestamptz not null default now()
  )`

/** Fails unless every call made exactly so many domain rows. */
export const verify = async (sql: Sql, expected: number, rows = 1): Promise<void> => {
  const [row] = await sql<{ rows: number; calls: number }>(
    "select count(*)::int as rows, count(distinct call_id)::int as calls from bench.message"
  )
  if (row?.rows !== expected * rows || row.calls !== expected) {
    throw new Error(
      `the work was not done: ${row?.rows} rows for ${row?.calls} calls, not ${rows} each for ${expected}`
    )
  }
}
