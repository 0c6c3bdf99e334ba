/**
 * How often what failed for a passing reason of the database is tried again.
 */
import * as Schedule from "effect/Schedule"

/** Soon at first, then every two seconds, without an end: an outage is waited for. */
export const outage = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")])
