/**
 * Tracks what a store knows of the server's clock, and since when, to decide whether a lease has really expired.
 *
 * A lease is the worker's promise to report in time. While the database is down no worker can report, and when its clock
 * jumps the time never passed; so the workers of leases that ended meanwhile have not died. They report as soon as they can:
 * they renew or release. Until then, for the length of one lease, such leases are left alone. Only a process with
 * uninterrupted contact may take an expired lease for a crash immediately.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type ChunkStore, ChunkStoreError } from "../../ChunkStore.ts"
import { eachVerb } from "../verbs.ts"

/** This process's time, by a monotonic clock. All times here are in milliseconds. */
export const here = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

/**
 * Whether an error means that the database cannot be reached, and not a conflict with other transactions. That also holds
 * where the role may not log in at present, or the database is absent.
 */
export const isOutage = ({ code = "", transient }: ChunkStoreError): boolean =>
  transient ? !/^(40|55)/.test(code) : /^(28|3D)/.test(code)

/** Tolerance for a server's clock that runs faster than this one, and for imprecise comparison of the two. */
const slack = (elapsed: number) => 1000 + elapsed / 1000

/** Contact with one server. */
export interface Contact {
  /** The server could not be reached. */
  readonly lost: () => void
  /** The server answered a request that was sent at `asked`, with its time. */
  readonly heard: (server: number, asked: number) => void
  /** Leases that ended before this time of the server's clock have expired; later ones have not. */
  readonly judged: (now: number) => number
}

/** A contact that has not been made yet. `lease` is how long workers have to report. */
export const make = (lease: Duration.Duration): Contact => {
  let last: { readonly server: number; readonly here: number } | undefined
  let away = false
  let grace: { readonly judged: number; readonly until: number } | undefined
  const known = (now: number): number => {
    // a process that starts during an outage does not know when the outage began
    if (last === undefined) return away ? 0 : Infinity
    const elapsed = now - last.here
    return away ? last.server : last.server + elapsed + slack(elapsed)
  }
  return {
    lost: () => {
      away = true
    },
    heard: (server, asked) => {
      const judged = known(asked)
      if (judged < server) grace = { judged, until: asked + Duration.toMillis(lease) }
      away = false
      last = { server, here: asked }
    },
    judged: (now) => grace !== undefined && now < grace.until ? grace.judged : known(now)
  }
}

/** The verbs that workers call repeatedly. */
const workersVerbs: ReadonlySet<string> = new Set(["claim", "persistInside", "giveUp", "renew", "settle", "beat"])

/** The store; notes each outage that its workers' verbs meet. */
export const watch = (store: ChunkStore["Service"], contact: Contact): ChunkStore["Service"] =>
  eachVerb(store, (effect, verb) =>
    workersVerbs.has(verb)
      ? Effect.tapError(
        effect,
        (error) => error instanceof ChunkStoreError && isOutage(error) ? Effect.sync(contact.lost) : Effect.void
      )
      : effect)
