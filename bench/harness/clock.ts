/**
 * One clock for all processes of the machine.
 */

/** Milliseconds since some moment that is the same in every process, to a fraction of one. */
export const sharedNow = (): number => Number(process.hrtime.bigint()) / 1e6
