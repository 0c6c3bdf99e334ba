/**
 * What a doctor finds of the work itself: whether it goes on, and what holds it up.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { Kind } from "../ChunkStore.ts"
import { EventLog, type SubscriptionStatus } from "../EventLog.ts"
import { word } from "../internal/escape.ts"
import { covers, type Pause, Pauses } from "../Pauses.ts"
import * as ask from "../store/pg/doctor.ts"
import { oldestDue } from "../store/pg/gauges.ts"
import { attention, type Finding, ok, type Patient } from "./finding.ts"
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
    failing.length > 0 ? "mend the subscriber; it goes on by itself" : "is its program running?"
  )
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

/** Asks what the work comes to, and finds what is wrong with it. */
export const examineWork = Effect.fnUntraced(function*({ deadBlocksKey, limits, schema, sql }: Patient) {
  const [stale] = yield* ask.staleLeases(sql, schema)
  const [oldest] = yield* oldestDue(sql, schema)
  const [failing] = yield* ask.retrying(sql, schema)
  const [beating] = yield* ask.workers(sql, schema)
  const [letters] = yield* ask.deadLetters(sql, schema)
  const [heldUp] = deadBlocksKey ? yield* ask.heldUp(sql, schema) : []
  const pauses = yield* Pauses.use((pauses) => pauses.list)
  const isPaused = (kind: Kind) => pauses.some((pause) => covers(pause, kind))
  const parked = (yield* ask.parkedKinds(sql, schema)).filter((kind) => !isPaused(kind))
  const alive = beating?.alive ?? 0
  // without any worker that is what is to be said, and no more
  const left = alive === 0 ? [] : (yield* ask.unserved(sql, schema)).filter((kind) => !isPaused(kind))
  const seconds = oldest?.seconds ?? null
  return [
    workers(alive, seconds !== null),
    age(seconds, limits.ageSeconds),
    retrying(failing, limits.ageSeconds),
    (stale?.count ?? 0) === 0
      ? ok("leases", "none ran out long ago")
      : attention(
        "leases",
        `${count(stale?.count ?? 0)} ran out over 5 minutes ago`,
        "no worker takes them up: start one"
      ),
    parked.length === 0
      ? ok("handlers", "nothing is parked for want of one")
      : attention(
        "handlers",
        `none for ${named(parked)}`,
        "deploy a worker that has it; what is parked goes on by itself"
      ),
    left.length === 0
      ? ok("namespaces", "all that is due is drained by some worker")
      : attention(
        "namespaces",
        `no worker takes ${named(left)}`,
        "start one without --namespace, or for this one"
      ),
    pausesAre(pauses),
    (letters?.count ?? 0) === 0
      ? ok("dead letters", "none")
      : attention(
        "dead letters",
        count(letters?.count ?? 0),
        "see `sluice dead list`; mend, then `sluice dead redrive`"
      ),
    (heldUp?.count ?? 0) === 0
      ? ok("held up", "nothing stands behind a dead letter")
      : attention(
        "held up",
        `${count(heldUp?.count ?? 0)} behind a dead letter of their ordering key, as call ${
          word(heldUp?.callId ?? "")
        }`,
        "redrive or discard the dead letter, see `sluice dead show`: they go on by themselves"
      ),
    subscriptions(yield* EventLog.use((log) => log.list), limits.unread)
  ]
})
