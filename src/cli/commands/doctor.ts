/**
 * `sluice doctor`: what is wrong, and what to do about it. Its exit status is 0 when all is well, 1 when something wants
 * attention, 2 when something is broken.
 */
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Database from "../Database.ts"
import { examine } from "../examine.ts"
import { broken, Finding, Severity } from "../finding.ts"
import * as print from "../print.ts"

/** What `sluice doctor --json` prints. */
export const Diagnosis = Schema.Struct({ severity: Severity, findings: Schema.Array(Finding) })

const worst = (findings: ReadonlyArray<Finding>): typeof Severity.Type =>
  findings.some((one) => one.severity === "broken")
    ? "broken"
    : findings.some((one) => one.severity === "attention")
    ? "attention"
    : "ok"

/** The command. */
export const doctor = Command.make("doctor", Database.common, ({ json, url }) =>
  Effect.gen(function*() {
    const findings = yield* Effect.catch(examine({ alone: yield* Database.isEmbedded(url) }), (error) => {
      const { reason } = Database.explain(error)
      return Effect.succeed([broken("server", reason, "is the address right, and the server up?")])
    })
    const severity = worst(findings)
    process.exitCode = { ok: 0, attention: 1, broken: 2 }[severity]
    if (json) return yield* print.json(Diagnosis, { severity, findings })
    const marks = { ok: "ok", attention: "!", broken: "X" }
    for (const { advice, check, found, severity } of findings) {
      yield* Console.log(`${marks[severity].padEnd(3)} ${check}: ${found}`)
      if (advice !== "") yield* Console.log(`    → ${advice}`)
    }
  }).pipe(Effect.provide(Database.storesToLookAt(url)), Database.told)).pipe(
    Command.withDescription("What is wrong, and what to do about it"),
    Command.withExamples([{ command: "sluice doctor --url postgres://…", description: "Exit status 0, 1 or 2" }])
  )
