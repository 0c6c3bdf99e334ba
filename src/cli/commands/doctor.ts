/**
 * `sluice doctor`: reports what is wrong and what to do about it. Its exit status is 0 if nothing is wrong, 1 if something
 * needs attention, 2 if something is broken.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Database from "../Database.ts"
import * as durationFlag from "../durationFlag.ts"
import { examine } from "../examine.ts"
import { explain, told, whenUnreachable } from "../Failed.ts"
import { broken, Finding, Severity, usualLimits } from "../Finding.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"

/** What `sluice doctor --json` prints. */
export const Diagnosis = Schema.Struct({ severity: Severity, findings: Schema.Array(Finding) })

const worst = (findings: ReadonlyArray<Finding>): typeof Severity.Type =>
  findings.some((one) => one.severity === "broken")
    ? "broken"
    : findings.some((one) => one.severity === "attention")
    ? "attention"
    : "ok"

/** How long the oldest due chunk may have waited, in seconds. */
const ageOf = Effect.fnUntraced(function*(flag: Option.Option<string>) {
  const text = yield* options.textOf(flag, "SLUICE_MAX_AGE")
  return Option.isNone(text)
    ? usualLimits.ageSeconds
    : Duration.toSeconds(yield* durationFlag.read(options.sayOf(flag, "SLUICE_MAX_AGE"), text.value))
})

/** Runs the checks. An error that stops them, for example an unreachable server, becomes the only finding. */
const looked = (url: Option.Option<string>, ageSeconds: number) =>
  Effect.flatMap(
    Database.isEmbedded(url),
    (alone) => examine({ alone, limits: { ...usualLimits, ageSeconds } })
  ).pipe(
    Effect.provide(Database.storesToExamine(url)),
    Effect.catch((error) => {
      const [found = "", ...isAway] = explain(error).reason.split(`: ${whenUnreachable}`)
      const advice = isAway.length > 0 ? whenUnreachable : "fix that first: nothing else can be checked"
      return Effect.succeed([broken("server", found, advice)])
    })
  )

/** The command. */
export const doctor = Command.make(
  "doctor",
  {
    ...options.common,
    maxAge: Flag.String("max-age").pipe(
      Flag.withMetavar("SPAN"),
      Flag.withDescription("how long a due chunk may wait; default 5min (SLUICE_MAX_AGE)"),
      Flag.optional
    )
  },
  ({ maxAge, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const findings = yield* looked(url, yield* ageOf(maxAge))
      const severity = worst(findings)
      process.exitCode = { ok: 0, attention: 1, broken: 2 }[severity]
      if (json) return yield* print.json(Diagnosis, { severity, findings })
      const marks = { ok: "ok", attention: "!", broken: "X" }
      for (const { advice, check, found, severity } of findings) {
        yield* print.line(`${marks[severity].padEnd(3)} ${check}: ${found}`)
        if (advice !== "") yield* print.line(`    → ${advice}`)
      }
    }).pipe(told)
).pipe(
  Command.withDescription("Report what is wrong, and what to do about it. Exit status 0, 1 (attention) or 2 (broken)"),
  Command.withShortDescription("Report what is wrong, and what to do about it"),
  Command.withExamples([
    { command: "sluice doctor --url postgres://…", description: "Examine a server" },
    { command: "sluice doctor --max-age 1h", description: "Accept an hour's backlog" }
  ])
)
