/** Node's timers end at once when their time does not fit in 31 bits: a limit of a month would be none. */
import * as Duration from "effect/Duration"

/** A duration in milliseconds, at most what a timer of Node takes: almost 25 days. */
export const timerMillis = (span: Duration.Duration): number => Math.min(Duration.toMillis(span), 2 ** 31 - 1)
