/**
 * What others record does not decide how long a screen is: long lists end with how many more there are.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { beforeAll, describe, expect, it } from "vitest"
import * as Migrations from "../../src/store/Migrations.ts"
import { client } from "../support/Postgres.ts"
import { run, workInEmptyFolder } from "./inProcess.ts"
import { newDatabase } from "./workplace.ts"

const kinds = 5000

describe("thousands of kinds, parts and dead letters", { timeout: 240_000 }, () => {
  let url = ""
  beforeAll(async () => {
    workInEmptyFolder()
    url = await newDatabase()
    await Effect.runPromise(
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* Migrations.run
        yield* sql`insert into sluice.service_call (call_id, namespace, service, correlation_id, status, outputs)
          values ('many', 'clinic', 'services.clinic.ward.take-notes', 'c', 'succeeded', array['{}'::json]),
            ('letters', 'clinic', 'services.clinic.ward.take-notes', 'c', 'succeeded', array['{}'::json])`
        yield* sql`
          insert into sluice.persisted_chunk (call_id, schema_identity, namespace, schema_version, handler, handler_version)
          select 'call-' || i, 'schemas.tenant' || i || '.ward.note', 'tenant' || i, 1, 'core/note', 1
          from generate_series(1, ${kinds}) i`
        yield* sql`
          insert into sluice.persisted_chunk
            (call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects)
          select 'many', 'schemas.clinic.ward.note', 'part-' || i, 'clinic', 1, 'clinic/note', 1,
            (select jsonb_agg(jsonb_build_object('type', 'clinic.Note', 'id', o::text)) from generate_series(1, 200) o)
          from generate_series(1, 500) i`
        // the last of all by name, and the only ones with something to do
        yield* sql`
          insert into sluice.chunk_queue (call_id, namespace, schema_identity, schema_version, state, parked_for)
          select 'due-' || i, 'zzz' || i, 'schemas.zzz' || i || '.ward.note', 1, 'parked', 'no-handler'
          from generate_series(1, 60) i`
        yield* sql`
          insert into sluice.dead_letter (call_id, schema_identity, part, seq, namespace, schema_version, position, bytes,
            priority, reason, handler, message, attempts, crashes, recorded_at)
          select 'letters', 'schemas.dead' || i || '.ward.note', 'part-' || i, i, 'dead' || i, 1, 1, 1, 0, 'rejected', 'clinic/note',
            repeat(E'a line\n', 500), 1, 0, now()
          from generate_series(1, 120) i`
        yield* sql`insert into sluice.worker (id, serves)
          select 'host' || i || '/1/x', (select jsonb_agg(jsonb_build_object('namespace', 'n' || k, 'schemaIdentity', 's' || k))
            from generate_series(1, 100) k) from generate_series(1, 70) i`
      }).pipe(Effect.provide(client(url)), Effect.scoped)
    )
  })

  it("a status shows those with something outstanding, and says how many more there are and how to see them", async () => {
    const { stdout } = await run("status", "--url", url)
    const lines = stdout.split("\n")
    expect(lines.length).toBeLessThan(130)
    expect(lines.slice(1, 51).every((line) => /^(dead|zzz)\d+\//.test(line))).toBe(true)
    expect(stdout).toContain(`… and ${kinds + 1 + 60 + 120 - 50} more kinds: see --limit, or --json`)
    expect(stdout).toContain("… and 20 more workers: see --limit, or --json")
    const all = await run("status", "--limit", "100000", "--url", url)
    expect(all.stdout.split("\n").length).toBeGreaterThan(kinds)
    const { kinds: listed } = JSON.parse((await run("status", "--json", "--url", url)).stdout)
    expect(listed.length).toBe(kinds + 1 + 60 + 120)
  })

  it("handlers, a call and its dead letters are no longer than a person reads", async () => {
    const handlers = await run("handlers", "--url", url)
    expect(handlers.stdout).toContain(`  … and ${kinds + 1 + 60 + 120 - 50} more kinds: see --limit, or --json`)
    expect(handlers.stdout.split("\n").length).toBeLessThan(60)
    const shown = await run("show", "many", "--url", url)
    expect(shown.stdout).toContain("more outputs: --json has all")
    expect(shown.stdout).toContain("… and 180 more objects: --json has all")
    expect(shown.stdout.split("\n").length).toBeLessThan(2500)
    const letters = await run("dead", "show", "letters", "--url", url)
    expect(letters.stdout).toContain("… and 100 more dead letters: --json has all")
    expect(letters.stdout).toContain("more lines: --json has all")
    const list = await run("dead", "list", "--url", url)
    expect(list.stdout).toContain("… and 70 more kinds: --json has all")
    expect(list.stdout.split("\n").length).toBeLessThan(100)
  })
})
