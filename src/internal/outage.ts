/**
 * How often an operation is retried after a transient error of the database.
 */
import * as Schedule from "effect/Schedule"

/** With growing delays up to two seconds, without an end: it waits for the end of an outage. */
export const outage = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")])
