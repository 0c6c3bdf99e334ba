/**
 * What statements leave behind, judged by their text: what may share a transaction, and what may not.
 */
import { describe, expect, it } from "vitest"
import { tokenize } from "../../../src/store/pg/lexer.ts"
import { natureOf } from "../../../src/store/pg/nature.ts"

const kindOf = (sql: string): string => {
  const { control, order, savepoint, session, transaction } = natureOf(sql)
  if (control) return "control"
  if (session) return "session"
  if (transaction) return "transaction"
  if (savepoint) return "savepoint"
  return order ? "order" : "plain"
}

const statements: Readonly<Record<string, ReadonlyArray<string>>> = {
  plain: [
    "",
    "-- nothing",
    "select 1",
    "SELECT * FROM note WHERE id = $1",
    "(select 1) union all (select 2)",
    "values (1), (2)",
    "table note",
    "show search_path",
    "insert into note (call_id, text) values ($1, $2) returning id",
    "insert into clinic.note (call_id) select unnest($1::text[])",
    "insert into note as n (call_id) values ($1) on conflict (call_id) do update set text = excluded.text",
    "update note set (text, at) = ($1, now()) where id in (select id from note limit 1)",
    "delete from note using ward w where note.ward = w.id",
    "with old (id) as (delete from note returning id), more as materialized (select 1) select count(*) from old",
    "with recursive walk(n) as (select 1 union all select n + 1 from walk where n < 5) select * from walk",
    "merge into note n using (values (1, 'a')) v (id, text) on n.id = v.id when matched then update set text = v.text " +
    "when not matched then insert (id, text) values (v.id, v.text)",
    "select 'set_config(''app.tenant'', 1, true); commit' as text",
    "select $$ set local role x; $$, $tag$ commit $tag$ from note",
    "select /* set local role x /* nested */ commit */ 1",
    "select e'it\\'s set role'",
    "select cast($1 as numeric(10, 2)), $2::varchar(10), x::character varying(3), interval '1 day'",
    "select max(place) + 1 from line where ward = $1 group by (ward) having count(*) filter (where true) > 0",
    "select pg_catalog.lower(name), coalesce(a, b), extract(epoch from at) from note order by (at) desc",
    "select row_number() over (partition by (ward) order by at) from note window w as (order by at)",
    "select t.n from unnest($1::text[]) with ordinality as t(text, n) join lateral (select 1) l(x) on (true)",
    "select a from note where exists (select 1) and a = any(array[1]) and (a, b) in ((1, 2))",
    "select nextval('note_id_seq'), gen_random_uuid(), jsonb_build_object('a', 1) -> 'a'",
    "select \"set\", \"role\" from \"commit\"",
    "with a as (select 1), old (id, text) as not materialized (select 1, 'a') select * from a, old",
    "select age operator(pg_catalog.+) length($1), x from unnest($1::int[]) t(age) join (select 1) u(x) on (true)"
  ],
  order: [
    "select * from ward where id = 1 for update",
    "select * from ward for no key update skip locked",
    "SELECT * FROM ward FOR SHARE",
    "lock table ward in share mode",
    "select pg_advisory_xact_lock(1)",
    "select lastval()",
    "insert into a (b) values (currval('a_id_seq'))"
  ],
  savepoint: [
    "SAVEPOINT effect_sql_1",
    "RELEASE SAVEPOINT effect_sql_1",
    "ROLLBACK TO SAVEPOINT effect_sql_12"
  ],
  transaction: [
    "set local role tenant_a",
    "SET LOCAL app.tenant = 'a'",
    "set constraints all immediate",
    "set transaction isolation level serializable",
    "select set_config('app.tenant', $1, true)",
    "select pg_catalog.set_config('app.tenant', 'a', true)",
    "select \"set_config\"('app.tenant', $1, true)",
    "insert into note (text) values (set_config('app.tenant', $1, true))",
    "select 1 as n, set_config('app.tenant', $1, true) as tenant",
    "select n, set_config('app.tenant', $1, true) as tenant, n from note",
    "select distinct on (ward) set_config('app.tenant', ward, true) from note",
    "select 1 operator(pg_catalog.+) set_config('app.tenant', '1', true)::int",
    "select pg_notify('ward', '')",
    "notify ward",
    "declare c cursor for select 1",
    "fetch next from c",
    "close c",
    "savepoint mine",
    "rollback to mine",
    "release mine",
    "create index on note (text)",
    "truncate note",
    "select * into copy from note",
    "select pg_export_snapshot()",
    "select 1; set local role x"
  ],
  session: [
    "set role tenant_a",
    "set session authorization x",
    "set search_path = clinic",
    "SET TIME ZONE 'UTC'",
    "reset role",
    "reset all",
    "select set_config('app.tenant', $1, false)",
    "select set_config('app.tenant', $1, $2)",
    "select set_config('app.tenant', 'a', not true)",
    "select set_config(is_local => false, setting_name => 'app.tenant', new_value => 'a')",
    // a function's body may set for the session
    "select become_tenant($1)",
    "select 1 as n, become_tenant($1) as tenant",
    "select * from ward, become_tenant($1) as (tenant text)",
    "select clinic.become_tenant($1), pg_catalog.lower('a')",
    "select set('app.tenant', 'a')",
    "select U&\"set\\005fconfig\"('app.tenant', 'a', false)",
    "select 🩺($1)",
    "select ward\u0308($1)",
    "select 1 -- a comment ends at either line end\r, become_tenant($1)",
    "declare c cursor for select become_tenant($1)",
    "create table copy as select become_tenant(text) from note",
    "explain analyze select become_tenant($1)",
    "copy (select become_tenant($1)) to stdout",
    "create table pg_temp.t (id int)",
    "select * into pg_temp.copy from note",
    "select pg_advisory_lock(1)",
    "select pg_try_advisory_lock(1)",
    "create temp table t (id int)",
    "create temporary view v as select 1",
    "create or replace temp view v as select 1",
    "select * into temp copy from note",
    "prepare p as select 1",
    "execute p",
    "deallocate p",
    "listen ward",
    "unlisten *",
    "discard all",
    "load 'auto_explain'",
    "do $$ begin perform 1; end $$",
    "call close_ward()",
    "declare c cursor with hold for select 1",
    // where a plain string ends depends on a setting
    "select 'a\\' , set_config(''",
    "select 'unfinished"
  ],
  control: [
    "begin",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "start transaction",
    "commit",
    "COMMIT WORK",
    "end",
    "rollback",
    "ROLLBACK WORK",
    "abort",
    "commit and chain",
    "prepare transaction 'x'",
    "commit prepared 'x'",
    "rollback prepared 'x'",
    "/* hidden */ commit",
    "insert into note values (1); commit; begin",
    "select 1;\n-- then\nrollback"
  ]
}

describe("a statement", () => {
  for (const [kind, list] of Object.entries(statements)) {
    for (const sql of list) it(`${kind}: ${JSON.stringify(sql)}`, () => expect(kindOf(sql)).toBe(kind))
  }

  it("is read to its end, whatever is in it", () => {
    for (const sql of ["'", "\"", "$$", "/*", "$1$", "e'\\", "\u0000", "ä🩺(", ";;;", "a.b.c(", "((((", "))))"]) {
      expect(() => natureOf(sql)).not.toThrow()
    }
    expect(tokenize("select 1; select 2;")).toHaveLength(2)
  })

  it("may be a text of many megabytes", () => {
    const long = "x".repeat(20_000_000)
    for (const sql of [`select '${long}'`, `select e'${long}'`, `select "${long}"`]) expect(kindOf(sql)).toBe("plain")
  })
})
