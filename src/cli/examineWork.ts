/**
 * The doctor's checks of the work itself: whether it makes progress, and what holds it up.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ChunkStoreError } from "../ChunkStore.ts"
import { EventLog, type SubscriptionStatus } from "../EventLog.ts"
import {
  type HeldUp,
  type InsideUse,
  Inspector,
  type LogStanding,
  type ParkedKind,
  type Scheduled,
  type Stranded
} from "../Inspector.ts"
import { word } from "../internal/escape.ts"
import * as Kind from "../Kind.ts"
import { type Pause, Pauses } from "../Pauses.ts"
import { attention, type Finding, ok, type Patient } from "./Finding.ts"
import { sumUses } from "./insideUse.ts"
import { look } from "./look.ts"
import * as print from "./print.ts"
import * as redacting from "./redacting.ts"

/** The queries of the doctor count up to 1000. */
const count = (n: number) => n >= 1000 ? "1000 or more" : String(n)

const named = (kinds: ReadonlyArray<Kind.Kind>) => kinds.map(Kind.format).join(", ")

const workers = (alive: number, isDue: boolean): Finding => {
  if (alive > 0) return ok("workers", `${alive} alive`)
  return isDue
    ? attention("workers", "none is alive, and chunks are due", "start one, or run `sluice drain --until-empty`")
    : ok("workers", "none is alive; nothing is due")
}

const age = (seconds: number | undefined, limit: number): Finding => {
  if (seconds === undefined) return ok("age", "nothing is due")
  const found = `the oldest due chunk has waited ${print.ago(Math.max(0, seconds) * 1000)}`
  return seconds < limit ? ok("age", found) : attention("age", found, "start more workers, or see `sluice stuck`")
}

const scheduled = (found: Scheduled, limit: number): Finding => {
  if (found.count === 0) return ok("scheduled", "nothing waits for another attempt")
  const since = print.ago((found.seconds ?? 0) * 1000)
  const latest = `call ${word(found.callId ?? "")}: ${print.clip(print.first(found.message ?? ""), 60)}`
  const told = `${count(found.count)}, since ${since}, latest error of ${latest}`
  return (found.seconds ?? 0) < limit
    ? ok("scheduled", told)
    : attention(
      "scheduled",
      told,
      "see `sluice stuck`; fix the handler or what it needs; they are retried without further action"
    )
}

/** How many ordering keys are checked, each by an index lookup. */
const mostKeys = 10_000

const waiting = ({ callId, complete, count }: Stranded): Finding => {
  if (count > 0) {
    return attention(
      "waiting",
      `${count} wait although nothing is before them, for example call ${word(callId ?? "")}`,
      "`sluice mend` releases them; workers release some at each heartbeat"
    )
  }
  return ok(
    "waiting",
    `each waiting chunk has an older one before it${complete ? "" : `, of the first ${mostKeys} ordering keys`}`
  )
}

const subscriptions = (all: ReadonlyArray<SubscriptionStatus>, unread: number): Finding => {
  const failing = all.filter((one) => one.attempts > 0)
  const behind = all.filter((one) => one.attempts === 0 && one.behind > unread)
  if (failing.length + behind.length === 0) {
    return ok("subscriptions", all.length === 0 ? "there are none" : `${all.length} keep up`)
  }
  return attention(
    "subscriptions",
    [
      ...failing.map((one) => `${one.name} failed ${one.attempts} times: ${print.clip(one.lastError ?? "", 60)}`),
      ...behind.map((one) => `${one.name} is ${one.behind >= 10_000 ? "10000 or more" : one.behind} entries behind`)
    ].join("; "),
    failing.length > 0
      ? "see `sluice subscriptions`; fix the subscriber, then it continues by itself"
      : "is its program running? see `sluice subscriptions`"
  )
}

/** Whether the transaction ids in the event log belong to this cluster. */
const eventLog = (standing: LogStanding): Finding => {
  switch (standing._tag) {
    case "Ours":
      return ok("event log", "its transaction ids are this cluster's")
    case "Foreign":
      return attention(
        "event log",
        `it came from another cluster${standing.above ? ", and its transaction ids are above this one's" : ""}`,
        "the next read by a subscription rebases it, if its role owns the tables; or run `sluice subscriptions rebase`"
      )
    case "Refused":
      return attention(
        "event log",
        standing.reason,
        standing.incoming ? "then run `sluice subscriptions`" : "subscriptions read nothing until then"
      )
  }
}

const pausesAre = (pauses: ReadonlyArray<Pause>): Finding =>
  pauses.length === 0
    ? ok("pauses", "none")
    : attention(
      "pauses",
      pauses.map(({ namespace, pausedAt, reason, schemaIdentity }) =>
        `${namespace}/${schemaIdentity}${reason === "" ? "" : ` (${reason})`} since ${DateTime.formatIso(pausedAt)}`
      ).join(", "),
      "`sluice resume` when it is over"
    )

const leases = (stale: number): Finding =>
  stale === 0
    ? ok("leases", "none ran out long ago")
    : attention("leases", `${count(stale)} ran out over 5 minutes ago`, "no worker claims them: start one")

/** A question about kinds that no worker serves, and served kinds with similar names. */
const similarTo = (kinds: ReadonlyArray<Kind.Kind>, served: ReadonlyArray<Kind.Kind>): string => {
  const pairs = kinds.flatMap((kind) => {
    const similar = Kind.similar(kind, served)
    return similar === undefined ? [] : [`${Kind.format(kind)} or ${Kind.format(similar)}, which a worker serves`]
  })
  return pairs.length === 0 ? "" : `. Is one of these names misspelt: ${pairs.join("; ")}?`
}

const parkedAre = (kinds: ReadonlyArray<ParkedKind>, served: ReadonlyArray<Kind.Kind>): Finding => {
  const without = kinds.filter(({ reason }) => reason === "no-handler")
  const newer = kinds.filter(({ reason }) => reason === "newer-version")
  return without.length + newer.length === 0
    ? ok("handlers", "nothing is parked because it has none")
    : attention(
      "handlers",
      [
        ...without.length === 0 ? [] : [`none that can run for ${named(without)}`],
        ...newer.length === 0 ? [] : [`none that reads the recorded version of ${named(newer)}`]
      ].join("; "),
      `deploy a worker that can run it; \`sluice handlers\` says why one cannot${similarTo(without, served)}`
    )
}

const leftAre = (kinds: ReadonlyArray<Kind.Kind>, served: ReadonlyArray<Kind.Kind>): Finding =>
  kinds.length === 0
    ? ok("namespaces", "some worker drains each namespace with due chunks")
    : attention(
      "namespaces",
      `no worker takes ${named(kinds)}`,
      `start one without --namespace, or for this one${similarTo(kinds, served)}`
    )

/**
 * Reports declared handlers whose table does not fit, and those whose answers the database refuses to persist by itself.
 */
const declaredAre = (uses: ReadonlyArray<InsideUse>): Finding => {
  const unfit = uses.filter((use) => use.unfit !== null)
  if (unfit.length > 0) {
    return attention(
      "declared handlers",
      unfit.map((use) => `${use.handler}: ${print.clip(use.unfit ?? "", 120)}`).join("; "),
      "repair the table, then its parked chunks continue by themselves; see `sluice handlers`"
    )
  }
  if (uses.length === 0) {
    return ok("declared handlers", "no living worker has any: see `sluice handlers`")
  }
  const refused = uses.filter(({ refusal }) => refusal !== null)
  return refused.length === 0
    ? ok("declared handlers", "their tables fit, and the database refuses none")
    : attention(
      "declared handlers",
      refused.map(({ handler, refusal }) => `${handler}: ${print.clip(refusal ?? "", 120)}`).join("; "),
      "workers claim these answers and write the same rows, which takes longer: look for what acts on the table, and for missing rights"
    )
}

const deadAre = (letters: number): Finding =>
  letters === 0
    ? ok("dead letters", "none")
    : attention(
      "dead letters",
      count(letters),
      "see `sluice dead list`; fix the cause, then `sluice dead redrive --all`"
    )

const heldUpAre = (found: HeldUp): Finding =>
  found.count === 0
    ? ok("held up", "no chunk waits behind a dead letter")
    : attention(
      "held up",
      `${count(found.count)} behind a dead letter of their ordering key, for example of call ${
        word(found.callId ?? "")
      }`,
      "redrive or discard the dead letter, see `sluice dead show`: they continue without further action"
    )

/** Runs the checks of the work. A check that this role may not run does not stop the others. */
export const examineWork = Effect.fnUntraced(function*(patient: Patient) {
  const { limits } = patient
  const { vitals, workers: seen } = yield* Inspector
  const pauses = yield* Effect.exit(Pauses.use((pauses) => pauses.list))
  const living = yield* Effect.exit(Effect.map(seen(), (all) => all.filter((worker) => worker.alive)))
  const alive = Exit.map(living, (workers) => workers.length)
  const served = Exit.isSuccess(living) ? living.value.flatMap(({ serves }) => serves) : []
  const oldest = yield* Effect.exit(vitals.oldestDue)
  // if this role lacks a right, the check that needs it reports that
  const isPaused = (kind: Kind.Kind) => Exit.isSuccess(pauses) && pauses.value.some((pause) => Kind.covers(pause, kind))
  const isDue = Exit.isSuccess(oldest) && oldest.value !== undefined
  const isAnyAlive = Exit.isSuccess(alive) && alive.value > 0
  const unpaused = <K extends Kind.Kind>(kinds: ReadonlyArray<K>) => kinds.filter((kind) => !isPaused(kind))
  const looks: ReadonlyArray<Effect.Effect<ReadonlyArray<Finding>, ChunkStoreError, EventLog | Pauses>> = [
    look(patient, "workers", Effect.map(alive, (count) => workers(count, isDue))),
    look(patient, "age", Effect.map(oldest, (seconds) => age(seconds, limits.ageSeconds))),
    look(
      patient,
      "scheduled",
      Effect.map(
        Effect.flatMap(vitals.scheduled, redacting.scheduled),
        (failing) => scheduled(failing, limits.ageSeconds)
      )
    ),
    look(patient, "leases", Effect.map(vitals.staleLeases, leases)),
    // before the next one: a table that does not fit is why its kind counts as without a handler
    look(patient, "declared handlers", Effect.map(living, (workers) => declaredAre(sumUses(workers)))),
    look(patient, "handlers", Effect.map(vitals.parkedKinds, (kinds) => parkedAre(unpaused(kinds), served))),
    // without any live worker, the check "workers" says enough
    look(
      patient,
      "namespaces",
      Effect.map(isAnyAlive ? vitals.unservedKinds : Effect.succeed([]), (kinds) => leftAre(unpaused(kinds), served))
    ),
    look(patient, "pauses", Effect.map(pauses, pausesAre)),
    look(patient, "dead letters", Effect.map(vitals.deadLetters, deadAre)),
    look(patient, "held up", Effect.map(vitals.heldUp, heldUpAre)),
    look(patient, "waiting", Effect.map(vitals.stranded(mostKeys), waiting)),
    look(
      patient,
      "subscriptions",
      EventLog.use((log) => log.list).pipe(
        Effect.flatMap(redacting.subscriptions),
        Effect.map((all) => subscriptions(all, limits.unread))
      )
    ),
    look(patient, "event log", Effect.map(vitals.eventLog, eventLog))
  ]
  return (yield* Effect.all(looks)).flat()
})
