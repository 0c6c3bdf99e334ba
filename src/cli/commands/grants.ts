/**
 * `sluice grants`: prints the statements that grant a role its rights on Sluice's tables. The tables' owner runs them.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Settings from "../../Settings.ts"
import * as rights from "../../store/Rights.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"

/** What `sluice grants --json` prints. */
export const Grants = Schema.Struct({ role: Schema.String, statements: Schema.Array(Schema.String) })

/** The purposes of a program that records, drains and reads events. */
const application: ReadonlyArray<rights.Purpose> = ["recorder", "worker", "subscriber"]

/** Checks a role's name: in quotes Postgres takes any text of 1 to 63 bytes. */
const check = (role: string) => {
  // not roles, even in quotes; "public" means every role
  if (role === "public" || role === "none") return Effect.fail(new Failed({ reason: `${role} is not a role` }))
  return role === "" || role.includes("\0") || Buffer.byteLength(role) > 63
    ? Effect.fail(new Failed({ reason: "a role's name has 1 to 63 bytes" }))
    : Effect.succeed(role)
}

/** The command. It does not connect to a database. */
export const grants = Command.make(
  "grants",
  {
    json: options.common.json,
    role: Argument.String("role").pipe(Argument.withDescription("the name of the role in Postgres")),
    for: Flag.Literals("for", rights.purposes).pipe(
      Flag.withDescription(
        "what the role does; default: record, drain and subscribe. Can be repeated"
      ),
      Flag.atLeast(0)
    )
  },
  ({ for: given, role: name, ...flags }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(flags.json, "SLUICE_JSON")
      const { schema } = yield* Settings.Settings
      const role = yield* check(name)
      const statements = rights.grants(schema, role, given.length === 0 ? application : given)
      if (json) return yield* print.json(Grants, { role, statements })
      yield* print.lines(statements.map((statement) => `${statement};`))
    }).pipe(told)
).pipe(
  Command.withDescription(
    "Print the GRANT statements that a role needs: a recorder, a worker, a subscriber, or an operator, who uses every command"
  ),
  Command.withShortDescription("Print the rights that a role needs, as SQL"),
  Command.withExamples([
    {
      command: "sluice grants clinic_app | psql -v ON_ERROR_STOP=1",
      description: "Grant a program its rights, as the owner of the tables"
    },
    { command: "sluice grants clinic_web --for recorder", description: "For a program that only records" },
    { command: "sluice grants ward_lead --for operator", description: "For a person" }
  ])
)
