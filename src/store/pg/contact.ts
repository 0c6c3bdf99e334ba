/**
 * What a store knows of the server's clock, and since when: whether it may judge that a lease ran out.
 *
 * A lease is the worker's promise to say a word in time. While the database is away nobody can, and when its clock jumps
 * the time never was; so the workers of leases that ended meanwhile have not died. They say so as soon as they can: they
 * renew, or give back. Until then, for as long as one lease, such leases are left alone. Only who was there all the
 * time may take an end without a word for a death at once.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type ChunkStore, ChunkStoreError } from "../../ChunkStore.ts"
import { eachVerb } from "../verbs.ts"

/** The time of this process, by a clock that is never set. In milliseconds, as all times here. */
export const here = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

/** Whether an error says that the database is away, and not that others were in the way. */
const isOutage = ({ code = "", transient }: ChunkStoreError): boolean => transient && !/^(40|55)/.test(code)

/** By how much a server's clock may be the faster one, and what the two are compared too coarsely by. */
const slack = (elapsed: number) => 1000 + elapsed / 1000

/** Contact with one server. */
export interface Contact {
  /** The server did not answer. */
  readonly lost: () => void
  /** The server answered with its time, to what was asked at `asked`. */
  readonly heard: (server: number, asked: number) => void
  /** Leases that ended before this time of the server's are over; no other is. */
  readonly judged: (now: number) => number
}

/** A contact that has not been made yet. `lease` is how long workers get to say that they live. */
export const make = (lease: Duration.Duration): Contact => {
  let last: { readonly server: number; readonly here: number } | undefined
  let away = false
  let grace: { readonly judged: number; readonly until: number } | undefined
  const known = (now: number): number => {
    // who comes in the middle of an outage knows nothing of the time before
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

/** What workers ask again and again. */
const workersVerbs: ReadonlySet<string> = new Set(["claim", "giveUp", "renew", "settle", "beat"])

/** The store, with a note taken of each outage that its workers' verbs meet. */
export const watch = (store: ChunkStore["Service"], contact: Contact): ChunkStore["Service"] =>
  eachVerb(store, (effect, verb) =>
    workersVerbs.has(verb)
      ? Effect.tapError(
        effect,
        (error) => error instanceof ChunkStoreError && isOutage(error) ? Effect.sync(contact.lost) : Effect.void
      )
      : effect)
