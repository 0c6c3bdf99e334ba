/**
 * Which rights on Sluice's tables a role needs for its purpose, and what to advise when it lacks them.
 */
import { escapeUnsafe, word } from "../internal/escape.ts"
import { shown } from "./pg/tables.ts"

/** What a role does: records calls, drains them, subscribes to events, or operates the system. */
export type Purpose = "recorder" | "worker" | "subscriber" | "operator"

/** All purposes, in display order. */
export const purposes: ReadonlyArray<Purpose> = ["recorder", "worker", "subscriber", "operator"]

/** Rights by object. A right followed by columns in parentheses applies to these columns only. */
type Rights = Readonly<Record<string, ReadonlyArray<string>>>

interface Needs {
  readonly tables: Rights
  readonly sequences: Rights
  /** Predefined Postgres roles. */
  readonly roles: ReadonlyArray<string>
}

const all = ["select", "insert", "update", "delete"]

/** A test records, drains, subscribes and operates with exactly these rights. */
const needs: Readonly<Record<Purpose, Needs>> = {
  recorder: {
    tables: {
      migration: ["select"],
      service_call: ["select", "insert", "update"],
      call_attempt: ["select", "insert"],
      usage_entry: ["insert"],
      // a call is kept open if a subscription receives the ends of calls
      call_subscription: ["select"],
      open_call: ["insert"],
      // the columns are read at start, to check whether the sequence is behind
      chunk_queue: ["select (seq, call_id)", "insert"],
      dead_letter: ["select (seq)"]
    },
    sequences: { chunk_seq: ["usage"] },
    roles: []
  },
  worker: {
    tables: {
      migration: ["select"],
      service_call: ["select"],
      // persisting one call inline reads what became of it
      call_attempt: ["select"],
      // folded into usage_total at each beat
      usage_entry: all,
      usage_total: all,
      chunk_queue: ["select", "update", "delete"],
      persisted_chunk: ["select", "insert", "update"],
      // counted at each beat
      ledger_place: all,
      ledger_total: all,
      ledger_digest: all,
      // a chunk that is persisted manually leaves the dead letters
      dead_letter: all,
      chunk_failure: ["select", "insert"],
      worker: all,
      pause: ["select"],
      // to tell the ends of calls
      call_subscription: ["select"],
      open_call: ["select", "update", "delete"],
      call_end: ["select", "insert"],
      subscription_log: ["select"]
    },
    sequences: { chunk_seq: ["usage"], chunk_failure_id_seq: ["select"] },
    roles: []
  },
  subscriber: {
    tables: {
      migration: ["select"],
      // without the result columns
      service_call: ["select (call_id, namespace, service, correlation_id, context)"],
      persisted_chunk: ["select"],
      subscription: all,
      // to see which cluster's numbers it contains; after a move to another cluster the owner of the tables rebases it
      subscription_log: ["select"],
      subscription_skip: ["select", "insert"],
      call_subscription: ["select", "insert", "delete"],
      call_end: ["select"]
    },
    sequences: {},
    roles: []
  },
  operator: {
    tables: {
      migration: ["select"],
      service_call: all,
      call_attempt: all,
      usage_entry: all,
      usage_total: all,
      chunk_queue: all,
      persisted_chunk: all,
      ledger_place: all,
      ledger_total: all,
      ledger_digest: all,
      dead_letter: all,
      chunk_failure: all,
      worker: all,
      pause: all,
      subscription: all,
      subscription_log: all,
      subscription_skip: all,
      call_subscription: all,
      open_call: all,
      call_end: all,
      erasure: all
    },
    sequences: {
      chunk_seq: ["usage", "select", "update"],
      chunk_failure_id_seq: ["usage", "select", "update"],
      subscription_skip_id_seq: ["usage", "select", "update"],
      erasure_id_seq: ["usage", "select", "update"]
    },
    // without it the doctor does not see other roles' sessions
    roles: ["pg_read_all_stats"]
  }
}

/** Each right that a worker needs on an object; none is limited to columns. */
export const workerRights = (): ReadonlyArray<{ readonly object: string; readonly right: string }> =>
  [...Object.entries(needs.worker.tables), ...Object.entries(needs.worker.sequences)].flatMap(([object, rights]) =>
    rights.map((right) => ({ object, right }))
  )

/**
 * A role's name in SQL. One with characters that are escaped where they are printed is written with Postgres' own escapes:
 * so that what is printed names this role and no other.
 */
const quoted = (role: string): string => {
  const within = role.replaceAll("\"", "\"\"")
  return escapeUnsafe(role) === role
    ? `"${within}"`
    : `U&"${within.replaceAll(/[^\x20-\x7e]|\\/g, (unit) => `\\${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)}"`
}

/** Joins rights. A right on the whole table makes the same right on columns redundant. */
const together = (rights: ReadonlyArray<string>): string =>
  [...new Set(rights)].filter((right) => !right.includes(" (") || !rights.includes(right.split(" (")[0] ?? "")).join(
    ", "
  )

const merged = (each: ReadonlyArray<Rights>): ReadonlyArray<readonly [object: string, rights: string]> =>
  [...new Set(each.flatMap(Object.keys))].map((object) => [object, together(each.flatMap((one) => one[object] ?? []))])

/** The statements that grant a role what it needs. They revoke nothing and can be run again. */
export const grants = (schema: string, role: string, purposes: ReadonlyArray<Purpose>): ReadonlyArray<string> => {
  const wanted = purposes.map((purpose) => needs[purpose])
  const to = quoted(role)
  return [
    `grant usage on schema ${shown(schema)} to ${to}`,
    ...merged(wanted.map(({ tables }) => tables)).map(([table, rights]) =>
      `grant ${rights} on ${shown(schema)}.${table} to ${to}`
    ),
    ...merged(wanted.map(({ sequences }) => sequences)).map(([sequence, rights]) =>
      `grant ${rights} on sequence ${shown(schema)}.${sequence} to ${to}`
    ),
    ...new Set(wanted.flatMap(({ roles }) => roles.map((own) => `grant ${own} to ${to}`)))
  ]
}

/** A role that may lack rights, its schema and its purpose. */
export interface Lacking {
  readonly schema: string
  readonly role: string
  readonly purpose: Purpose
}

/** The statement that grants a role what a worker needs on an object; the empty text means the schema. */
export const workerGrant = (schema: string, role: string, object: string): string => {
  const { sequences, tables } = needs.worker
  const rights = tables[object] ?? sequences[object]
  if (rights === undefined) return `grant usage on schema ${shown(schema)} to ${quoted(role)}`
  const kind = tables[object] === undefined ? "sequence " : ""
  return `grant ${rights.join(", ")} on ${kind}${shown(schema)}.${object} to ${quoted(role)}`
}

/** Whether a text contains a name, and not only a longer word with it. */
const names = (text: string, name: string): boolean => new RegExp(`(?<!\\w)${name}(?!\\w)`).test(text)

/**
 * Explains which grant is missing, from the server's message of a missing right (42501). Only the object's name is read from
 * it: the language is a setting of the server. Undefined for an object that is not Sluice's. For an object that the purpose
 * does not need, it names the grant for an operator.
 */
export const explain = (text: string, { purpose, role, schema }: Lacking): string | undefined => {
  // a grant does not help who must be the owner
  if (text.startsWith("must be owner")) return undefined
  const all = (known: Purpose) => `\`sluice grants ${word(role)} --for ${known}\` prints all that it needs`
  for (const known of new Set([purpose, "operator" as const])) {
    const { sequences, tables } = needs[known]
    const object = [...Object.keys(tables), ...Object.keys(sequences)].find((object) => names(text, object))
    const rights = object === undefined ? undefined : tables[object] ?? sequences[object]
    if (object === undefined || rights === undefined) continue
    const on = `${tables[object] === undefined ? "sequence " : ""}${shown(schema)}.${object}`
    const grant = `grant ${rights.join(", ")} on ${on} to ${quoted(role)}`
    return `role ${role} lacks rights on ${on}: ${grant}; ${all(known)}`
  }
  return names(text, schema) ? `role ${role} lacks usage on schema ${schema}: ${all(purpose)}` : undefined
}
