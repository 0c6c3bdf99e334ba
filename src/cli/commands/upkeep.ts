/**
 * `sluice prune`, `pause` and `resume`.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Pause, Pauses } from "../../Pauses.ts"
import { Pruned, Retention } from "../../Retention.ts"
import * as Database from "../Database.ts"
import * as print from "../print.ts"

const age = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("DURATION"),
    Flag.withDescription(description),
    Flag.withSchema(Schema.DurationFromString),
    Flag.optional
  )

/** Forgets what is old. */
export const prune = Command.make(
  "prune",
  {
    ...Database.common,
    payloads: age("payloads", "payloads of calls that are done, recorded longer ago: \"90 days\""),
    discarded: age("discarded", "dead letters discarded longer ago"),
    failures: age("failures", "remembered failures longer ago"),
    dryRun: Flag.Boolean("dry-run").pipe(Flag.withDescription("only say how much"), Flag.withDefault(false))
  },
  ({ discarded, dryRun, failures, json, payloads, url }) =>
    Effect.gen(function*() {
      const policy = {
        payloads: Option.getOrUndefined(payloads),
        discarded: Option.getOrUndefined(discarded),
        failures: Option.getOrUndefined(failures)
      }
      if (Object.values(policy).every((age) => age === undefined)) {
        return yield* new Database.Failed({ reason: "say what: --payloads, --discarded or --failures, with an age" })
      }
      const pruned = yield* Retention.use((retention) => dryRun ? retention.preview(policy) : retention.prune(policy))
      if (json) return yield* print.json(Pruned, pruned)
      const verb = dryRun ? "would be forgotten" : "forgotten"
      yield* Console.log(
        `${pruned.payloads} payloads, ${pruned.discarded} dead letters, ${pruned.failures} failures ${verb}`
      )
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), Database.told)
).pipe(
  Command.withDescription("Forget what is old; the ledger stays"),
  Command.withExamples([{ command: "sluice prune --payloads \"90 days\" --dry-run", description: "See how much" }])
)

const kind = {
  namespace: Flag.String("namespace").pipe(
    Flag.withDescription("of this namespace; all without"),
    Flag.withDefault("*")
  ),
  schema: Flag.String("schema").pipe(
    Flag.withDescription("of this schema identity; all without"),
    Flag.withDefault("*")
  )
}
/** What `sluice pause --json` and `resume --json` print: the pauses there are now. */
export const PauseList = Schema.Struct({ pauses: Schema.Array(Pause) })

const listed = Effect.fnUntraced(function*(json: boolean) {
  const pauses = yield* Pauses.use((pauses) => pauses.list)
  if (json) return yield* print.json(PauseList, { pauses })
  if (pauses.length === 0) yield* Console.log("nothing is paused")
  for (const { namespace, reason, schemaIdentity } of pauses) {
    yield* Console.log(`paused: ${namespace}/${schemaIdentity}${reason === "" ? "" : `: ${reason}`}`)
  }
})

/** Stops the drain of a kind, on all workers. */
export const pause = Command.make(
  "pause",
  {
    ...Database.common,
    ...kind,
    because: Flag.String("because").pipe(Flag.withDescription("why, for the others"), Flag.withDefault(""))
  },
  ({ because, json, namespace, schema, url }) =>
    Effect.andThen(
      Pauses.use((pauses) => pauses.pause({ namespace, schemaIdentity: schema }, because)),
      listed(json)
    ).pipe(Effect.provide(Database.storesAsTheyAre(url)), Database.told)
).pipe(
  Command.withDescription("Stop draining a namespace or schema, on all workers, within one beat"),
  Command.withExamples([
    { command: "sluice pause --namespace chatlab --because \"the table is being moved\"", description: "A namespace" }
  ])
)

/** Ends a pause. */
export const resume = Command.make(
  "resume",
  { ...Database.common, ...kind },
  ({ json, namespace, schema, url }) =>
    Effect.gen(function*() {
      const ended = yield* Pauses.use((pauses) => pauses.resume({ namespace, schemaIdentity: schema }))
      if (!ended) {
        return yield* new Database.Failed({ reason: `${namespace}/${schema} is not paused; see \`sluice status\`` })
      }
      yield* listed(json)
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), Database.told)
).pipe(
  Command.withDescription("End a pause"),
  Command.withExamples([{ command: "sluice resume --namespace chatlab", description: "The same as was paused" }])
)
