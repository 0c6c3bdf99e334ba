/**
 * `sluice subscriptions`: prints each durable subscription, its reader and how far behind it is; resets, skips, removes,
 * rebases.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { EventLog, type From, printEntry, Rebased, SubscriptionStatus } from "../../EventLog.ts"
import { word } from "../../internal/escape.ts"
import { ChunkKey } from "../../ServiceCall.ts"
import * as Database from "../Database.ts"
import * as durationFlag from "../durationFlag.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import * as redacting from "../redacting.ts"

/** What `sluice subscriptions --json` prints; `reset` and `remove` print those that exist afterwards. */
export const SubscriptionList = Schema.Struct({ subscriptions: Schema.Array(SubscriptionStatus) })
/** What `sluice subscriptions skip --json` prints. */
export const SubscriptionSkipped = Schema.Struct({ subscription: Schema.String, skipped: ChunkKey })

const columns = 80
const name = options.recordedArgument("name", "the subscription's name")
/** The store counts up to 10,000. */
const counted = ({ behind, feed }: SubscriptionStatus): string | number => {
  const count = behind >= 10_000 ? "10000+" : behind
  return feed === "calls" ? `${count} ends` : count
}

const stateOf = (one: SubscriptionStatus, now: number): string => {
  if (one.reader !== null) return `read by ${one.reader.id}`
  if (one.attempts > 0) {
    const next = one.dueAt.epochMilliseconds - now
    const times = one.attempts === 1 ? "once" : `${one.attempts} times`
    return `failed ${times}; ${next > 0 ? `next in ${print.ago(next)}` : "due, and it has no reader"}`
  }
  if (one.suspects > 0) return `failed; looking for it in ${one.suspects}`
  return one.behind === 0 ? "has read everything" : "has no reader"
}

const inWords = Effect.fnUntraced(function*(all: ReadonlyArray<SubscriptionStatus>) {
  if (all.length === 0) return yield* print.line("there are no subscriptions")
  const now = (yield* DateTime.now).epochMilliseconds
  const rows = all.map((one) => [
    print.clip(one.name, 24),
    counted(one),
    one.next === null ? "" : print.ago(now - one.next.persistedAt.epochMilliseconds),
    print.clip(stateOf(one, now), 38)
  ])
  const [head = "", ...lines] = print.table(["subscription", "unread", "oldest", "state"], rows).split("\n")
  yield* print.line(head)
  for (const [index, one] of all.entries()) {
    yield* print.line(lines[index] ?? "")
    if (one.lastError !== null && one.next !== null) {
      yield* print.line(print.clip(`  before ${printEntry(one.next.key)}`, columns))
      yield* print.line(print.fit(`  latest error: ${print.first(one.lastError)}`))
    }
    if (one.skipped > 0) {
      yield* print.line(`  skipped ${one.skipped === 1 ? "one entry" : `${one.skipped} entries`}`)
    }
  }
})

const listed = Effect.fnUntraced(function*(given: Option.Option<boolean>) {
  const subscriptions = yield* Effect.flatMap(EventLog.use((log) => log.list), redacting.subscriptions)
  const json = yield* options.switchOf(given, "SLUICE_JSON")
  return yield* json ? print.json(SubscriptionList, { subscriptions }) : inWords(subscriptions)
})

const unknown = (name: string) =>
  new Failed({ reason: `there is no subscription ${word(name)}: \`sluice subscriptions\` lists those there are` })

const statusOf = Effect.fnUntraced(function*(name: string) {
  const found = (yield* EventLog.use((log) => log.list)).find((one) => one.name === name)
  return found === undefined ? yield* unknown(name) : found
})

const parseTo = Effect.fnUntraced(function*(text: string): Effect.fn.Return<From | DateTime.Utc, Failed> {
  if (text === "beginning" || text === "now") return text
  const age = durationFlag.parse(text)
  if (Option.isSome(age)) return DateTime.subtractDuration(yield* DateTime.now, age.value)
  // a date or a time; a number alone would be parsed as a year
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? DateTime.make(text) : Option.none()
  if (Option.isSome(time)) return DateTime.toUtc(time.value)
  return yield* new Failed({
    reason: `--to: ${JSON.stringify(text)} is not a place: write beginning, now, how long ago (2h), or a time ` +
      "(2026-11-29T08:00:00Z)"
  })
})

const reset = Command.make(
  "reset",
  {
    ...options.common,
    name,
    to: Flag.String("to").pipe(
      Flag.withMetavar("PLACE"),
      Flag.withDescription("beginning, now, how long ago (2h), or a time (2026-11-29T08:00:00Z)")
    )
  },
  ({ name, to, url, ...given }) =>
    Effect.gen(function*() {
      const place = yield* parseTo(to)
      const found = yield* EventLog.use((log) => log.reset(name, place))
      if (!found) return yield* unknown(name)
      yield* listed(given.json)
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription(
    "Move a subscription to another place: back, entries are read again; forward, entries are skipped"
  ),
  Command.withExamples([
    {
      command: "sluice subscriptions reset billing --to 2h",
      description: "Read the last two hours again"
    },
    { command: "sluice subscriptions reset billing --to now", description: "Read only what comes from now on" }
  ])
)

const skip = Command.make(
  "skip",
  {
    ...options.common,
    name,
    because: options.required("because", "the reason; it is logged and stored"),
    call: options.recordedName("call", "skip only if the next entry is this call's; then it need not have failed")
  },
  ({ because, call, name, url, ...given }) =>
    Effect.gen(function*() {
      const { attempts, next } = yield* statusOf(name)
      if (next === null) {
        return yield* new Failed({ reason: `${word(name)} has read everything: there is nothing to skip` })
      }
      const { callId } = next.key
      if (Option.isSome(call) ? call.value !== callId : attempts === 0) {
        return yield* new Failed({
          reason: Option.isSome(call)
            ? `the next entry of ${word(name)} is call ${word(callId)}, not ${word(call.value)}`
            : `${word(name)} has not failed with its next entry, call ${word(callId)}; to skip it anyway, add ` +
              `--call ${word(callId)}`
        })
      }
      const passed = yield* EventLog.use((log) => log.skip(name, next.key, because))
      if (!passed) {
        return yield* new Failed({ reason: `call ${word(callId)} is no longer the next entry of ${word(name)}` })
      }
      yield* Effect.logWarning(`subscription ${name} skips ${printEntry(next.key)}: ${because}`)
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      if (json) return yield* print.json(SubscriptionSkipped, { subscription: name, skipped: next.key })
      yield* print.line(print.clip(`skipped ${printEntry(next.key)}`, columns))
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription(
    "Skip the entry that fails, for good: all objects that one chunk created, or the end of a call"
  ),
  Command.withExamples([
    {
      command: "sluice subscriptions skip billing --because \"the account is closed\"",
      description: "Skip the failing entry"
    }
  ])
)

const remove = Command.make(
  "remove",
  { ...options.common, name },
  ({ name, url, ...given }) =>
    Effect.gen(function*() {
      const found = yield* EventLog.use((log) => log.remove(name))
      if (!found) return yield* unknown(name)
      yield* listed(given.json)
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription(
    "Delete a subscription with its place; a program that still runs it does not create it again"
  ),
  Command.withExamples([{
    command: "sluice subscriptions remove billing",
    description: "Delete it when its program is gone"
  }])
)

/** The result of a rebase, in words. */
const rebasedInWords = ({ moved, outcome, repeated }: Rebased): string => {
  switch (outcome) {
    case "ours":
      return "the event log belongs to this cluster: nothing to do"
    case "adopted":
      return "the event log continues in this cluster: nothing was moved"
    case "raised":
      return `${moved} entries persisted in this cluster now come after the moved ones; ${repeated} of them may be delivered again`
  }
}

const rebase = Command.make(
  "rebase",
  options.common,
  ({ url, ...given }) =>
    Effect.gen(function*() {
      const rebased = yield* EventLog.use((log) => log.rebase)
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      yield* json ? print.json(Rebased, rebased) : print.line(rebasedInWords(rebased))
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription(
    "After a move to another cluster, make the moved events readable, in order and before new ones. Needs the owner of " +
      "Sluice's tables; does nothing if it is not needed"
  ),
  Command.withShortDescription("After a move to another cluster, make the events readable"),
  Command.withExamples([{ command: "sluice subscriptions rebase", description: "Run it when the doctor says so" }])
)

/** The command. */
export const subscriptions = Command.make(
  "subscriptions",
  options.common,
  ({ url, ...given }) => listed(given.json).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription(
    "List the durable subscriptions: how many entries each has not read, the age of the oldest, its reader, and what fails"
  ),
  Command.withShortDescription("List the subscriptions, how far behind each is, and errors"),
  Command.withExamples([
    { command: "sluice subscriptions", description: "List them" },
    {
      command: "sluice subscriptions skip billing --because \"the account is closed\"",
      description: "Skip a failing entry"
    }
  ]),
  Command.withSubcommands([reset, skip, remove, rebase])
)
