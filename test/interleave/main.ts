/**
 * Runs sessions beside each other in every order of their statements, on a real Postgres:
 *
 *   npm run interleave all pairs of verbs in all places, then by chance until it is stopped npm run interleave -- --seconds
 *   600 --seed 7 by chance only, for so long npm run interleave -- --place "dead ready" --version 15 npm run interleave --
 *   --verb erase all pairs with it, in all places npm run interleave -- --again "dead ready ready / beat | discard a /
 *   0,1,0"
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { dice } from "../support/dice.ts"
import { dangerous, pairsOf, printFound, randomSchedule, runAll, Tally } from "./campaign.ts"
import { open, parseSchedule, type Sessions } from "./explore.ts"
import { known } from "./known.ts"
import { places } from "./place.ts"
import type { Part } from "./verbs.ts"

const flags = {
  seconds: Flag.Int("seconds").pipe(Flag.withDescription("for so long at most"), Flag.optional),
  seed: Flag.Int("seed").pipe(Flag.withDescription("by chance only, from this seed on"), Flag.optional),
  place: Flag.String("place").pipe(Flag.withDescription("places whose names begin so"), Flag.withDefault("")),
  verb: Flag.String("verb").pipe(Flag.withDescription("pairs with a verb whose name begins so"), Flag.withDefault("")),
  version: Flag.Literals("version", ["15", "18"]).pipe(
    Flag.withDescription("of Postgres"),
    Flag.withDefault("18" as const)
  ),
  most: Flag.Int("most").pipe(Flag.withDescription("schedules of one pair at most"), Flag.withDefault(400)),
  again: Flag.String("again").pipe(Flag.withDescription("this schedule, and tell all"), Flag.optional)
}

const say = (line: string) => process.stdout.write(`${line}\n`)

/** Runs what is asked for until it is done, or time is over. */
const campaign = async (
  sessions: Sessions,
  tally: Tally,
  { among, most, seed, until, verb }: {
    readonly among: ReadonlyArray<string>
    readonly most: number
    readonly seed: number | undefined
    readonly until: number
    readonly verb: string
  }
) => {
  if (seed === undefined) {
    const isAsked = (parts: ReadonlyArray<Part>) => parts.some((part) => part.verb.startsWith(verb))
    for (const [place, parts] of dangerous) {
      if (among.includes(place) && isAsked(parts)) await runAll(sessions, tally, place, parts, most)
    }
    for (const place of among) {
      const pairs = pairsOf(place).filter(isAsked)
      for (const parts of pairs) {
        if (performance.now() > until) return
        await runAll(sessions, tally, place, parts, most)
      }
      say(`${place}: ${pairs.length} pairs; ${tally.schedules} schedules so far, ${tally.fresh.length} faults`)
    }
    if (until === Infinity || verb !== "") return
  }
  const roll = dice(seed ?? 1)
  while (performance.now() < until) tally.add(await randomSchedule(sessions, roll, among))
}

Command.make("interleave", flags, ({ again, most, place, seconds, seed, verb, version }) =>
  Effect.gen(function*() {
    const among = places.filter((one) => one.startsWith(place))
    const began = performance.now()
    const until = Option.match(seconds, { onNone: () => Infinity, onSome: (n) => began + n * 1000 })
    const tally = new Tally((found) => say(printFound(found)))
    yield* Effect.acquireUseRelease(
      Effect.promise(() => open(version === "15" ? 15 : 18)),
      (sessions) =>
        Effect.promise(async () => {
          if (Option.isSome(again)) {
            const schedule = parseSchedule(again.value)
            const outcome = await sessions.run(schedule)
            say(outcome.trace.join("\n"))
            return tally.add([schedule, outcome])
          }
          await campaign(sessions, tally, { among, most, seed: Option.getOrUndefined(seed), until, verb })
        }),
      (sessions) => Effect.promise(() => sessions.close())
    )
    for (const found of tally.found.values()) yield* Console.log(`\n${printFound(found)}`)
    const span = (performance.now() - began) / 1000
    const met = new Set([...tally.found.values()].flatMap(({ why }) => why ?? []))
    for (const { parts, why } of known) if (!met.has(why)) yield* Console.log(`known, and not met: ${why} (${parts})`)
    yield* Console.log(
      `\n${tally.schedules} schedules in ${span.toFixed(0)} s (${(tally.schedules / span).toFixed(0)} a second), ` +
        `Postgres ${version}: ${tally.fresh.length} kinds of faults, ${met.size} known`
    )
    if (tally.fresh.length > 0) process.exitCode = 1
  })).pipe(Command.run({ version: "0" }), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
