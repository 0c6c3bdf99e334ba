/**
 * `sluice stuck`: prints the chunks that make no progress, and why.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { DeadLetters } from "../../DeadLetters.ts"
import { Inspector, StuckChunk } from "../../Inspector.ts"
import { escape, word } from "../../internal/escape.ts"
import * as Database from "../Database.ts"
import { told } from "../Failed.ts"
import * as insideUse from "../insideUse.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import * as redacting from "../redacting.ts"

/** What `sluice stuck --json` prints. */
export const Stuck = Schema.Struct({
  chunks: Schema.Array(StuckChunk),
  /** Whether some sort may have more rows than the limit. */
  more: Schema.Boolean,
  /** The number of dead letters. They wait for a person, and are not among the chunks. */
  dead: Schema.Int
})

const span = (seconds: number | null): string => print.ago(Math.abs(seconds ?? 0) * 1000)

const reasonOf = (
  { attempts, behind, crashes, due, next, orderingKey, parkedFor, why, worker }: StuckChunk
): string => {
  switch (why) {
    case "scheduled": {
      const when = (next ?? 0) > 0 ? `next in ${span(next)}` : `due for ${span(next)}, and no worker claims it`
      return `failed ${attempts === 1 ? "once" : `${attempts} times`}; ${when}`
    }
    case "expired":
      return `worker ${escape(worker ?? "")} went away while it held the chunk, and ${crashes} did before; due for ${
        span(due)
      }`
    case "held":
      return `held by worker ${escape(worker ?? "")}; due for ${span(due)}`
    case "parked":
      return print.parked(parkedFor)
    case "waiting":
      return behind === null
        ? "there is nothing before it: `sluice mend` releases it"
        : `behind call ${word(behind)}, of ordering key ${word(orderingKey ?? "")}`
  }
}

const inWords = (
  { chunks, dead, more }: typeof Stuck.Type,
  limit: number,
  unfitOf: insideUse.UnfitOf
): ReadonlyArray<string> => {
  const letters = dead === 0 ? [] : [`${print.counted(dead, "dead letter")}: see \`sluice dead list\``]
  if (chunks.length === 0) return ["nothing is stuck", ...letters]
  const short = print.shortNames(chunks.map((chunk) => chunk.schemaIdentity))
  const told = chunks.flatMap((chunk) => {
    const { callId, error, namespace, parkedFor, part, schemaIdentity, why } = chunk
    const unfit = parkedFor === "no-handler" ? unfitOf(chunk) : undefined
    const kind = `${print.kind(namespace, short(schemaIdentity))}${part === "" ? "" : ` ${word(part)}`}`
    return [
      // names are not shortened, so they can be copied
      `${why}: ${word(callId)} ${kind}`,
      unfit === undefined ? `  ${reasonOf(chunk)}` : print.fit(`  ${unfit}`),
      ...error === null
        ? []
        : [print.fit(`  latest error: ${print.first(error)}`), `  in full: sluice show ${word(callId)}`]
    ]
  })
  const left = `for some reasons there are more than ${limit}: see --limit, and \`sluice status\` for the counts`
  return [...told, ...more ? [left] : [], ...letters]
}

/** The command. */
export const stuck = Command.make(
  "stuck",
  {
    ...options.common,
    namespace: options.recordedName("namespace", "only this namespace"),
    limit: options.limit(10)
  },
  ({ limit, namespace, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const request = { limit, namespace: Option.getOrUndefined(namespace) }
      const chunks = yield* Effect.flatMap(Inspector.use((inspector) => inspector.stuck(request)), redacting.stuck)
      const counts = Map.groupBy(chunks, ({ why }) => why)
      const letters = yield* DeadLetters.use((dead) => dead.count({ namespace: request.namespace }))
      const found = {
        chunks,
        more: [...counts.values()].some((list) => list.length === limit),
        dead: letters.reduce((sum, { count }) => sum + count, 0)
      }
      if (json) return yield* print.json(Stuck, found)
      yield* print.lines(inWords(found, limit, yield* insideUse.unfit))
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription(
    "List chunks that make no progress, and why: scheduled (failed, to be retried), expired (its worker is gone), held (by a " +
      "worker for long), parked (no handler, its table does not fit, none for its version, or paused), waiting (behind another " +
      "of its ordering key)"
  ),
  Command.withShortDescription("List chunks that make no progress, and why"),
  Command.withExamples([
    { command: "sluice stuck", description: "The first ten for each reason" },
    { command: "sluice stuck --namespace chatlab --limit 100", description: "The first hundred, of one namespace" }
  ])
)
