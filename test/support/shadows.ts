/**
 * A schema of functions and operators that are named like those of Postgres and stand first in a role's search path. Whoever
 * calls one fails: the role may not execute any, so that a statement in which one is meant fails when it begins, also where
 * it reads no row.
 */
import * as Effect from "effect/Effect"
import { globSync, readFileSync } from "node:fs"
import path from "node:path"
import type { Version } from "./cluster.ts"
import { asRole, runAt, serverAlone } from "./Postgres.ts"

const sources = path.resolve(import.meta.dirname, "../../src")

/** All words in the sources that hold statements: the names of the functions that they use are among them. */
const words = (): ReadonlyArray<string> => {
  const files = globSync(["store/**/*.ts", "cli/**/*.ts"], { cwd: sources })
  const text = files.map((file) => readFileSync(path.join(sources, file), "utf8")).join("\n")
  return [...new Set(text.match(/\b[a-z_][a-z0-9_]*\b/g))]
}

const list = (texts: ReadonlyArray<string>) => `array[${texts.map((text) => `'${text.replaceAll("'", "''")}'`).join()}]`

/** Types of columns, parameters and literals, as the server's catalog calls them. */
const types = [
  "text",
  "varchar",
  "name",
  "int2",
  "int4",
  "int8",
  "float8",
  "numeric",
  "bool",
  "json",
  "jsonb",
  "timestamptz",
  "interval",
  "uuid",
  "xid",
  "xid8",
  "oid",
  "regclass",
  "text[]",
  "int4[]",
  "int8[]"
]

const operators = [
  "=",
  "<>",
  "<",
  ">",
  "<=",
  ">=",
  "+",
  "-",
  "*",
  "/",
  "%",
  "&",
  "||",
  "->",
  "->>",
  "#>",
  "#>>",
  "?",
  "@>",
  "<@",
  "~~",
  "!~~",
  "~",
  "^"
]

/** Which of these give a truth, so that a statement with another's operator is not refused for its type alone. */
const comparisons = ["=", "<>", "<", ">", "<=", ">=", "?", "@>", "<@", "~~", "!~~", "~"]

const hostileSchema = () => `
  do $do$
  declare
    types text[] := ${list(types)};
    operators text[] := ${list(operators)};
    a text; b text; o text; f text; n int := 0;
    body text := $$ begin raise 'hostile function was called'; end $$;
  begin
    create schema hostile;
    perform set_config('check_function_bodies', 'off', true);
    foreach a in array types loop
      foreach b in array types loop
        n := n + 1;
        execute format('create function hostile.truth_%s(%s, %s) returns bool language plpgsql as %L', n, a, b, body);
        execute format('create function hostile.text_%s(%s, %s) returns text language plpgsql as %L', n, a, b, body);
        foreach o in array operators loop
          continue when exists (
            select from pg_operator
            where oprname = o and oprleft = a::regtype and oprright = b::regtype and oprnamespace = 'pg_catalog'::regnamespace
          );
          execute format(
            'create operator hostile.%s (leftarg = %s, rightarg = %s, function = hostile.%s_%s)',
            o, a, b, case when o = any(${list(comparisons)}) then 'truth' else 'text' end, n
          );
        end loop;
      end loop;
    end loop;
    for f in select distinct proname from pg_proc where pronamespace = 'pg_catalog'::regnamespace
      and proname = any(${list(words())})
    loop
      execute format('create function hostile.%I() returns text language plpgsql as %L', f, body);
      execute format('create function hostile.%I(variadic anyarray) returns text language plpgsql as %L', f, body);
      execute format('create function hostile.%I(anyelement, anyelement) returns text language plpgsql as %L', f, body);
      foreach a in array array['text', 'int4', 'int8', 'json', 'jsonb', 'timestamptz', 'text[]'] loop
        execute format('create function hostile.%I(%s) returns text language plpgsql as %L', f, a, body);
      end loop;
    end loop;
    revoke execute on all functions in schema hostile from public;
  end $do$`

/** The address of a database with such a schema, for a role in whose path it comes first. */
export const shadowed = Effect.fnUntraced(function*(version: Version) {
  // on a server of its own: a subscription reads up to the oldest transaction of the whole server
  const url = yield* serverAlone(version)
  const database = new URL(url).pathname.slice(1)
  const own = yield* asRole(url, "shadowed")
  yield* runAt(
    url,
    hostileSchema(),
    `grant usage on schema hostile to ${own.role}`,
    `grant create, temporary on database ${database} to ${own.role}`,
    `grant pg_read_all_stats to ${own.role}`,
    `alter role ${own.role} in database ${database} set search_path = hostile, public`
  )
  return own.url
})
