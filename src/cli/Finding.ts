/**
 * What a doctor finds, how bad it is, and from when on it is worth a word.
 */
import * as Schema from "effect/Schema"
import type * as Settings from "../Settings.ts"
import type { PgServer } from "../store/PgServer.ts"

/** How bad it is. */
export const Severity = Schema.Literals(["ok", "attention", "broken"])

/** One thing that was looked at. */
export const Finding = Schema.Struct({
  check: Schema.String,
  severity: Severity,
  found: Schema.String,
  /** What to do; empty when all is well. */
  advice: Schema.String
})
/** One thing that was looked at. */
export type Finding = typeof Finding.Type
/** All is well. */
export const ok = (check: string, found: string): Finding => ({ check, severity: "ok", found, advice: "" })
/** Somebody should look. */
export const attention = (check: string, found: string, advice: string): Finding => ({
  check,
  severity: "attention",
  found,
  advice
})
/** Nothing goes on with this. */
export const broken = (check: string, found: string, advice: string): Finding => ({
  check,
  severity: "broken",
  found,
  advice
})

/** From when on something is worth a word. */
export const usualLimits = {
  clockMillis: 5000,
  /** How long a due chunk may have waited. */
  ageSeconds: 300,
  snapshotSeconds: 300,
  /** How many transactions may have begun since a replica's snapshot. */
  replicaTransactions: 100_000,
  /** Dead rows in the queue, when they are also more than twice the live ones. */
  deadRows: 100_000,
  /** Bytes of the queue's indexes, when they are also more than four times the table. */
  indexBytes: 256 * 1024 * 1024,
  /** Entries a subscription may be behind. */
  unread: 5000
}
/** From when on something is worth a word. */
export type Limits = typeof usualLimits

/** Where a doctor looks. */
export interface Patient {
  readonly server: PgServer["Service"]
  /** As whom the doctor looks. */
  readonly role: string
  readonly settings: Settings.Values
  readonly limits: Limits
}
