/**
 * No setting of a role's session matters: the contract's suites, under the settings that Sluice's statements could least
 * expect.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterAll } from "vitest"
import { beat } from "../../src/testing/contract/beat.ts"
import { claiming } from "../../src/testing/contract/claiming.ts"
import { deadLetters } from "../../src/testing/contract/deadLetters.ts"
import { eventLog } from "../../src/testing/contract/eventLog.ts"
import { ordering } from "../../src/testing/contract/ordering.ts"
import { pauses } from "../../src/testing/contract/pauses.ts"
import { persisting } from "../../src/testing/contract/persisting.ts"
import { recording } from "../../src/testing/contract/recording.ts"
import { retention } from "../../src/testing/contract/retention.ts"
import { onDatabases } from "../contract/operators/ground.ts"
import type { Version } from "../support/cluster.ts"
import { asRole, client, freshDatabase, runAt, serverAlone } from "../support/Postgres.ts"

type SessionSettings = Readonly<Record<string, string>>

/**
 * Temporary tables are types as well, and are looked up before those of Postgres: each session of the role begins with some
 * that are named like types. Only Postgres 17 and later tell of the begin of a session.
 */
const hostileTypes = (role: string): ReadonlyArray<string> => [
  `create function hostile_types() returns event_trigger language plpgsql as $$
    declare name text;
    begin
      if session_user = '${role}' then
        foreach name in array array['text', 'uuid', 'json', 'jsonb', 'timestamptz', 'float8', 'xid', 'xid8', 'oid', 'regclass'] loop
          execute format('create temporary table %I (hostile int)', name);
        end loop;
      end if;
    end $$`,
  "create event trigger hostile_types on login execute function hostile_types()",
  "alter event trigger hostile_types enable always"
]

/** A database, for a role with these settings. */
const withSettings = Effect.fnUntraced(function*(version: Version, settings: SessionSettings, alone = false) {
  // on a server of its own: a subscription reads up to the oldest transaction of the whole server
  const url = yield* (alone ? serverAlone(version) : freshDatabase(version))
  const database = new URL(url).pathname.slice(1)
  const own = yield* asRole(url, "nasty")
  yield* runAt(
    url,
    `grant create, temporary on database ${database} to ${own.role}`,
    ...Object.entries(settings).map(([name, value]) => `alter role ${own.role} set ${name} = ${value}`)
  )
  return own.url
})

/** A database whose sessions begin with such tables. */
const withTypes = Effect.gen(function*() {
  const url = yield* freshDatabase(18)
  const own = yield* asRole(url, "typed")
  yield* runAt(
    url,
    `grant create, temporary on database ${new URL(url).pathname.slice(1)} to ${own.role}`,
    ...hostileTypes(own.role)
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
const [on18, on15, serializable, typed] = await Effect.runPromise(
  Effect.all([
    withSettings(18, german, true),
    withSettings(15, chinese),
    withSettings(15, { ...chinese, default_transaction_isolation: "serializable" }),
    withTypes
  ]).pipe(Scope.provide(scope))
)

onDatabases({ "Postgres 18, German": client(on18), "Postgres 15, Chinese": client(on15) }, persisting)

onDatabases({
  "Postgres 18, German": client(on18),
  "Postgres 15, Chinese": client(on15),
  "Postgres 18, temporary tables that are named like types": client(typed)
}, [
  ...deadLetters,
  ...retention
])

onDatabases({ "Postgres 18, German": client(on18) }, [
  ...recording,
  ...eventLog
])

// transactions of the caller's are refused at this isolation, so these have none
onDatabases({ "Postgres 15, Chinese, serializable": client(serializable) }, [
  ...claiming,
  ...ordering,
  ...beat,
  ...pauses
])
