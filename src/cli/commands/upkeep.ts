/**
 * `sluice prune`, `sluice pause` and `sluice resume`.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Inspector } from "../../Inspector.ts"
import * as Kind from "../../Kind.ts"
import { Pause, Pauses } from "../../Pauses.ts"
import { Pruned, Retention } from "../../Retention.ts"
import * as Database from "../Database.ts"
import * as durationFlag from "../durationFlag.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import { say } from "../Terminal.ts"

/** Deletes old payloads, discarded dead letters and failures. */
export const prune = Command.make(
  "prune",
  {
    ...options.common,
    payloads: Flag.optional(durationFlag.flag("payloads", "payloads of calls that are done, recorded longer ago: 90d")),
    discarded: Flag.optional(durationFlag.flag("discarded", "dead letters discarded longer ago")),
    failures: Flag.optional(durationFlag.flag("failures", "remembered failures longer ago")),
    dryRun: options.on("dry-run", "only report how much it would delete; an estimate above some thousands"),
    exact: options.on("exact", "with --dry-run: count all of it, which takes seconds for a million calls")
  },
  ({ discarded, dryRun, exact, failures, payloads, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const policy = {
        payloads: Option.getOrUndefined(payloads),
        discarded: Option.getOrUndefined(discarded),
        failures: Option.getOrUndefined(failures)
      }
      if (Object.values(policy).every((age) => age === undefined)) {
        return yield* new Failed({ reason: "say what to delete: --payloads, --discarded or --failures, with an age" })
      }
      const pruned = yield* Retention.use((retention) =>
        dryRun ? retention.preview(policy, { exact }) : retention.prune(policy)
      )
      if (json) return yield* print.json(Pruned, pruned)
      const verb = dryRun ? "would be deleted" : "deleted"
      const figure = (name: "payloads" | "discarded" | "failures") =>
        pruned.about?.includes(name) === true ? `about ${pruned[name]}` : String(pruned[name])
      yield* print.line(
        `${figure("payloads")} payloads, ${figure("discarded")} dead letters, ${figure("failures")} failures ${verb}`
      )
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription("Delete old data; the ledger stays"),
  Command.withExamples([{
    command: "sluice prune --payloads 90d --dry-run",
    description: "See how much it would delete"
  }])
)

const kindFlags = (all: string) => ({
  namespace: options.recordedName("namespace", "only this namespace; default: all"),
  schema: options.recordedName("schema", "only this schema identity; default: all"),
  all: options.on("all", all)
})

/** The kind that the flags name. All kinds need an explicit `--all`. */
const kindFromFlags = Effect.fnUntraced(function*({ all, namespace, schema }: {
  readonly namespace: Option.Option<string>
  readonly schema: Option.Option<string>
  readonly all: boolean
}) {
  if (Option.isNone(namespace) && Option.isNone(schema) && !all) {
    return yield* new Failed({ reason: "say which: --namespace, --schema, or --all" })
  }
  const any = () => Kind.wildcard
  return { namespace: Option.getOrElse(namespace, any), schemaIdentity: Option.getOrElse(schema, any) }
})

/** What `sluice pause --json` and `resume --json` print: the current pauses. */
export const PauseList = Schema.Struct({ pauses: Schema.Array(Pause) })

const listed = Effect.fnUntraced(function*(json: boolean) {
  const pauses = yield* Pauses.use((pauses) => pauses.list)
  if (json) return yield* print.json(PauseList, { pauses })
  yield* print.lines(pauses.length === 0 ? ["nothing is paused"] : pauses.map(print.pause))
})

/** Warns about a pause that matches nothing: it is probably misspelt. */
const doubt = Effect.fnUntraced(function*(kind: Kind.Kind) {
  if (yield* Inspector.use((inspector) => inspector.isKnown(kind))) return
  yield* say(
    `note: nothing of ${
      print.kind(kind.namespace, kind.schemaIdentity)
    } is outstanding, and no worker serves it; is it spelt right?`
  )
})

/** Stops draining a kind, on all workers. */
export const pause = Command.make(
  "pause",
  {
    ...options.common,
    ...kindFlags("everything, without a filter"),
    because: options.text("because", "the reason, shown to others")
  },
  ({ because, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const kind = yield* kindFromFlags(given)
      yield* Pauses.use((pauses) => pauses.pause(kind, Option.getOrElse(because, () => ""))).pipe(
        Effect.andThen(doubt(kind)),
        Effect.andThen(listed(json)),
        Effect.provide(Database.storesAsTheyAre(url))
      )
    }).pipe(told)
).pipe(
  Command.withDescription("Stop draining a namespace or schema, on all workers at once"),
  Command.withExamples([
    {
      command: "sluice pause --namespace chatlab --because \"the table is being moved\"",
      description: "Pause a namespace"
    },
    { command: "sluice pause --all", description: "Pause everything" }
  ])
)

/** Ends every pause. */
const resumeAll = Effect.gen(function*() {
  const pauses = yield* Pauses
  for (const pause of yield* pauses.list) yield* pauses.resume(pause)
})

/** Ends a pause. */
export const resume = Command.make(
  "resume",
  { ...options.common, ...kindFlags("every pause there is") },
  ({ url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const kind = yield* kindFromFlags(given)
      yield* Effect.gen(function*() {
        const isAll = kind.namespace === "*" && kind.schemaIdentity === "*"
        const ended = isAll ? yield* Effect.as(resumeAll, true) : yield* Pauses.use((pauses) => pauses.resume(kind))
        if (ended) return yield* listed(json)
        const reason = `${print.kind(kind.namespace, kind.schemaIdentity)} is not paused; see \`sluice status\``
        return yield* new Failed({ reason })
      }).pipe(Effect.provide(Database.storesAsTheyAre(url)))
    }).pipe(told)
).pipe(
  Command.withDescription("End a pause"),
  Command.withExamples([
    { command: "sluice resume --namespace chatlab", description: "Resume what was paused" },
    { command: "sluice resume --all", description: "End all pauses" }
  ])
)
