/**
 * What a doctor finds of the work itself: whether it goes on, and what holds it up.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SqlError } from "effect/sql/SqlError"
import type { Kind, ParkReason, StoreError } from "../ChunkStore.ts"
import { EventLog, type SubscriptionStatus } from "../EventLog.ts"
import { word } from "../internal/escape.ts"
import { covers, type Pause, Pauses } from "../Pauses.ts"
import * as ask from "../store/pg/doctor.ts"
import { oldestDue } from "../store/pg/gauges.ts"
import { isAboveUs, isOurs, refusal, standing } from "../store/pg/rebase.ts"
import { tables } from "../store/pg/tables.ts"
import { type Stranded, stranded } from "../store/pg/waiting.ts"
import { attention, type Finding, ok, type Patient } from "./finding.ts"
import { look } from "./look.ts"
import * as print from "./print.ts"

/** As the doctor's questions count. */
const count = (n: number) => n >= 1000 ? "1000 or more" : String(n)

const named = (kinds: ReadonlyArray<Kind>) =>
  kinds.map(({ namespace, schemaIdentity }) => `${namespace}/${schemaIdentity}`).join(", ")

const workers = (alive: number, isDue: boolean): Finding => {
  if (alive > 0) return ok("workers", `${alive} alive`)
  return isDue
    ? attention("workers", "none is alive, and chunks are due", "start one, or run `sluice drain --until-empty`")
    : ok("workers", "none is alive; nothing is due")
}

const age = (seconds: number | null, limit: number): Finding => {
  if (seconds === null) return ok("age", "nothing is due")
  const found = `the oldest due chunk has waited ${print.ago(Math.max(0, seconds) * 1000)}`
  return seconds < limit ? ok("age", found) : attention("age", found, "more workers, or see `sluice stuck`")
}

const retrying = (found: ask.Retrying | undefined, limit: number): Finding => {
  if (found === undefined || found.count === 0) return ok("retrying", "nothing waits for another attempt")
  const since = print.ago((found.seconds ?? 0) * 1000)
  const latest = `call ${word(found.callId ?? "")}: ${print.clip(print.first(found.message ?? ""), 60)}`
  const told = `${count(found.count)}, since ${since}, latest error of ${latest}`
  return (found.seconds ?? 0) < limit
    ? ok("retrying", told)
    : attention("retrying", told, "see `sluice stuck`; mend the handler or what it needs, they are tried again")
}

/** So many ordering keys are looked at, each by its index. */
const mostKeys = 10_000

const waiting = (found: Stranded | undefined): Finding => {
  const count = found?.count ?? 0
  if (count > 0) {
    return attention(
      "waiting",
      `${count} wait, though nothing stands before them, as call ${word(found?.callId ?? "")}`,
      "`sluice mend` releases them; workers do as well, some of them at each beat"
    )
  }
  const all = (found?.looked ?? 0) < mostKeys
  return ok("waiting", `all that wait stand behind something${all ? "" : `, of the first ${mostKeys} ordering keys`}`)
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
      ? "see `sluice subscriptions`; mend the subscriber, it goes on by itself"
      : "is its program running? see `sluice subscriptions`"
  )
}

/** Whether what subscriptions read goes by this cluster's numbers. */
const eventLog = Effect.fnUntraced(function*({ schema, sql }: Patient) {
  const [found] = yield* standing(tables(sql, schema))
  if (found === undefined || isOurs(found) || (found.unexamined && !isAboveUs(found))) {
    return ok("event log", "its numbers are this cluster's")
  }
  const refused = refusal(found)
  if (found.incoming !== null) return attention("event log", refused ?? "", "then run `sluice subscriptions`")
  return attention(
    "event log",
    refused ?? `it came from another cluster${isAboveUs(found) ? ", and its numbers are above this one's" : ""}`,
    refused === undefined
      ? "the next look of a subscription rebases it, as the owner of the tables; or run `sluice subscriptions rebase`"
      : "subscriptions read nothing until then"
  )
})

type ParkedKind = Kind & { readonly reason: ParkReason }

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
    : attention("leases", `${count(stale)} ran out over 5 minutes ago`, "no worker takes them up: start one")

const parkedAre = (kinds: ReadonlyArray<ParkedKind>): Finding => {
  const without = kinds.filter(({ reason }) => reason === "no-handler")
  const newer = kinds.filter(({ reason }) => reason === "newer-version")
  return without.length + newer.length === 0
    ? ok("handlers", "nothing is parked for want of one")
    : attention(
      "handlers",
      [
        ...without.length === 0 ? [] : [`none for ${named(without)}`],
        ...newer.length === 0 ? [] : [`none that reads the recorded version of ${named(newer)}`]
      ].join("; "),
      "deploy a worker that has it; what is parked goes on by itself"
    )
}

const leftAre = (kinds: ReadonlyArray<Kind>): Finding =>
  kinds.length === 0
    ? ok("namespaces", "all that is due is drained by some worker")
    : attention("namespaces", `no worker takes ${named(kinds)}`, "start one without --namespace, or for this one")

const deadAre = (letters: number): Finding =>
  letters === 0
    ? ok("dead letters", "none")
    : attention("dead letters", count(letters), "see `sluice dead list`; mend, then `sluice dead redrive`")

const heldUpAre = (found: { readonly count: number; readonly callId: string | null } | undefined): Finding =>
  found === undefined || found.count === 0
    ? ok("held up", "nothing stands behind a dead letter")
    : attention(
      "held up",
      `${count(found.count)} behind a dead letter of their ordering key, as call ${word(found.callId ?? "")}`,
      "redrive or discard the dead letter, see `sluice dead show`: they go on by themselves"
    )

/** What was answered, or nothing where this role may not ask: the look that it is for says so. */
const orNothing = <A, E>(answer: Exit.Exit<ReadonlyArray<A>, E>): ReadonlyArray<A> =>
  Exit.isSuccess(answer) ? answer.value : []

/** Asks what the work comes to, and finds what is wrong with it. What this role may not see keeps no other look from it. */
export const examineWork = Effect.fnUntraced(function*(patient: Patient) {
  const { deadBlocksKey, limits, schema, sql } = patient
  const pauses = yield* Effect.exit(Pauses.use((pauses) => pauses.list))
  const beating = yield* Effect.exit(ask.workers(sql, schema))
  const oldest = yield* Effect.exit(oldestDue(sql, schema))
  const isPaused = (kind: Kind) => orNothing(pauses).some((pause) => covers(pause, kind))
  const isDue = (orNothing(oldest)[0]?.seconds ?? null) !== null
  const isAnyAlive = (orNothing(beating)[0]?.alive ?? 0) > 0
  const looks: ReadonlyArray<Effect.Effect<ReadonlyArray<Finding>, SqlError | StoreError, EventLog | Pauses>> = [
    look(patient, "workers", Effect.map(beating, ([found]) => workers(found?.alive ?? 0, isDue))),
    look(patient, "age", Effect.map(oldest, ([found]) => age(found?.seconds ?? null, limits.ageSeconds))),
    look(
      patient,
      "retrying",
      Effect.map(ask.retrying(sql, schema), ([failing]) => retrying(failing, limits.ageSeconds))
    ),
    look(patient, "leases", Effect.map(ask.staleLeases(sql, schema), ([stale]) => leases(stale?.count ?? 0))),
    look(
      patient,
      "handlers",
      Effect.map(ask.parkedKinds(sql, schema), (kinds) => parkedAre(kinds.filter((kind) => !isPaused(kind))))
    ),
    // without any worker that is what is to be said, and no more
    look(
      patient,
      "namespaces",
      Effect.map(
        !isAnyAlive ? Effect.succeed([]) : ask.unserved(sql, schema),
        (kinds) => leftAre(kinds.filter((kind) => !isPaused(kind)))
      )
    ),
    look(patient, "pauses", Effect.map(pauses, pausesAre)),
    look(
      patient,
      "dead letters",
      Effect.map(ask.deadLetters(sql, schema), ([letters]) => deadAre(letters?.count ?? 0))
    ),
    look(
      patient,
      "held up",
      Effect.map(deadBlocksKey ? ask.heldUp(sql, schema) : Effect.succeed([]), ([found]) => heldUpAre(found))
    ),
    look(
      patient,
      "waiting",
      Effect.map(stranded(tables(sql, schema), mostKeys, deadBlocksKey), ([found]) => waiting(found))
    ),
    look(
      patient,
      "subscriptions",
      Effect.map(EventLog.use((log) => log.list), (all) => subscriptions(all, limits.unread))
    ),
    look(patient, "event log", eventLog(patient))
  ]
  return (yield* Effect.all(looks)).flat()
})
