/**
 * The doctor's findings: what was checked, how bad it is, and the limits above which it is reported.
 */
import * as Schema from "effect/Schema"
import type * as Settings from "../Settings.ts"
import type { PgServer } from "../store/PgServer.ts"

/** How bad a finding is: `broken` stops work, `attention` needs a person to look. */
export const Severity = Schema.Literals(["ok", "attention", "broken"])

/** The result of one check. */
export const Finding = Schema.Struct({
  check: Schema.String,
  severity: Severity,
  found: Schema.String,
  /** What to do; empty when all is well. */
  advice: Schema.String
})
/** The result of one check. */
export type Finding = typeof Finding.Type
/** A check that found nothing wrong. */
export const ok = (check: string, found: string): Finding => ({ check, severity: "ok", found, advice: "" })
/** A check whose result a person should look at. */
export const attention = (check: string, found: string, advice: string): Finding => ({
  check,
  severity: "attention",
  found,
  advice
})
/** A check that found something that stops work. */
export const broken = (check: string, found: string, advice: string): Finding => ({
  check,
  severity: "broken",
  found,
  advice
})

/** The limits above which the doctor reports something, by default. */
export const usualLimits = {
  clockMillis: 5000,
  /** How long a due chunk may have waited, in seconds. */
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
/** The limits above which the doctor reports something. */
export type Limits = typeof usualLimits

/** What the doctor examines: a server, seen by one role, with the settings and the limits. */
export interface Patient {
  readonly server: PgServer["Service"]
  /** The role that the doctor connects as. */
  readonly role: string
  readonly settings: Settings.Values
  readonly limits: Limits
}
