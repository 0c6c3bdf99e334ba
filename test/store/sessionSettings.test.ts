/**
 * No setting of a role's session matters: the contract's suites, under the settings that Sluice's statements could least expect.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterAll } from "vitest"
import { runSuitesOn } from "../contract/operators/ground.ts"
import type { Version } from "../support/cluster.ts"
import { asRole, client, freshDatabase, runAt } from "../support/Postgres.ts"

type SessionSettings = Readonly<Record<string, string>>

/** A database, for a role with these settings. */
const withSettings = Effect.fnUntraced(function*(version: Version, settings: SessionSettings) {
  const url = yield* freshDatabase(version)
  const database = new URL(url).pathname.slice(1)
  const own = yield* asRole(url, "nasty")
  yield* runAt(
    url,
    `grant create, temporary on database ${database} to ${own.role}`,
    ...Object.entries(settings).map(([name, value]) => `alter role ${own.role} set ${name} = ${value}`)
  )
  return own.url
})

const always: SessionSettings = {
  IntervalStyle: "sql_standard",
  standard_conforming_strings: "off",
  escape_string_warning: "on",
  backslash_quote: "off",
  bytea_output: "escape",
  extra_float_digits: "-15",
  row_security: "off",
  transform_null_equals: "on",
  array_nulls: "off",
  quote_all_identifiers: "on",
  xmloption: "document",
  jit: "on",
  jit_above_cost: "0",
  enable_seqscan: "off",
  default_toast_compression: "pglz",
  client_min_messages: "error",
  synchronous_commit: "off",
  statement_timeout: "'50s'",
  lock_timeout: "'20s'",
  default_transaction_deferrable: "on"
}

const german: SessionSettings = {
  ...always,
  DateStyle: "'German'",
  TimeZone: "'Pacific/Marquesas'",
  search_path: "''",
  plan_cache_mode: "force_generic_plan"
}

// until Postgres 17 the abbreviation of this zone is read as that of another one
const chinese: SessionSettings = {
  ...always,
  DateStyle: "'SQL, DMY'",
  TimeZone: "'Asia/Shanghai'",
  search_path: "nowhere, \"$user\"",
  plan_cache_mode: "force_custom_plan"
}

const scope = Scope.makeUnsafe()
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
const [on18, on15, serializable] = await Effect.runPromise(
  Effect.all([
    withSettings(18, german),
    withSettings(15, chinese),
    withSettings(15, { ...chinese, default_transaction_isolation: "serializable" })
  ]).pipe(Scope.provide(scope))
)

runSuitesOn({ "Postgres 18, German": client(on18), "Postgres 15, Chinese": client(on15) })
await import("../contract/persisting.test.ts")
await import("../contract/operators/deadLetters.test.ts")
await import("../contract/operators/retention.test.ts")

runSuitesOn({ "Postgres 18, German": client(on18) })
await import("../contract/recording.test.ts")
await import("../contract/operators/eventLog.test.ts")

// transactions of the caller's are refused at this isolation, so these have none
runSuitesOn({ "Postgres 15, Chinese, serializable": client(serializable) })
await import("../contract/claiming.test.ts")
await import("../contract/ordering.test.ts")
await import("../contract/beat.test.ts")
await import("../contract/operators/pauses.test.ts")
