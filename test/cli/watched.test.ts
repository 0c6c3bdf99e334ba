/**
 * A drain that is watched: its figures are those of the tables, as Prometheus reads them; it says when it is not ready, and
 * why; and it sends all of it by OTLP when it is told where to.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { createServer } from "node:http"
import { connect } from "node:net"
import parse from "parse-prometheus-text-format"
import { afterAll, describe, expect, it } from "vitest"
import * as Metrics from "../../src/Metrics.ts"
import { grants } from "../../src/store/Rights.ts"
import { asRole, client } from "../support/Postgres.ts"
import { freePort, newDatabase, notes, until, ward } from "./workplace.ts"

/** What a drain serves on its port. */
const get = async (port: string, what: string) => {
  const answer = await fetch(`http://127.0.0.1:${port}/${what}`, { headers: { connection: "close" } })
    .catch(() => undefined)
  return { status: answer?.status, text: (await answer?.text()) ?? "" }
}

/** Waits until a drain says so of itself. It must go on to say so. */
const says = (port: string, what: "ready" | "health", status: number, text: RegExp) =>
  until(() => get(port, what), (answer) => answer.status === status && text.test(answer.text))

const scope = Scope.makeUnsafe()
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

/** Asks a database. */
const asking = async (url: string) => {
  const context = await Effect.runPromise(Scope.provide(Layer.build(client(url, { maxConnections: 2 })), scope))
  const sql = Context.get(context, SqlClient.SqlClient)
  return {
    count: async (statement: string) =>
      Number((await Effect.runPromise(sql.unsafe<{ n: number }>(`select count(*)::int as n from ${statement}`)))[0]?.n),
    run: (statement: string) => Effect.runPromise(sql.unsafe(statement)),
    /** In a session of its own, that stays in its transaction until the scope ends. */
    hold: (statement: string) =>
      Effect.runPromise(Scope.provide(
        Effect.gen(function*() {
          const session = yield* sql.reserve
          yield* session.executeUnprepared("begin", [], undefined)
          yield* session.executeUnprepared(statement, [], undefined)
          const services = yield* Effect.context<never>()
          return () => Effect.runPromiseWith(services)(session.executeUnprepared("rollback", [], undefined))
        }),
        scope
      ))
  }
}

describe("a drain that is watched", { timeout: 120_000 }, () => {
  it("serves figures that are those of the tables", async () => {
    const url = await newDatabase()
    const place = await ward("broken", { url, variables: { SLUICE_BATCH_SIZE: "7" } })
    await place.record(30)
    await place.sluice("record", place.file("other.jsonl", notes(4, 100).replaceAll("ward.note", "ward.x-ray")))
    const port = await freePort()
    const running = place.start("drain", "--every", "100ms", "--workers", "2", "--metrics-port", port)
    const scrape = async () => parse((await get(port, "metrics")).text)
    const figure = async (name: string, labels: Readonly<Record<string, string>> = {}) => {
      const family = (await scrape()).find((one) => one.name === name)
      return (family?.metrics ?? [])
        .filter((one) => Object.entries(labels).every(([label, value]) => one.labels?.[label] === value))
        .reduce((sum, one) => sum + Number(one.value ?? one.buckets?.["+Inf"]), 0)
    }
    const outcome = (outcome: string) => figure("sluice_chunks_total", { outcome })
    await until(
      async () => ({
        persisted: await outcome("persisted"),
        dead: await outcome("dead"),
        parked: await outcome("parked")
      }),
      ({ dead, parked, persisted }) => persisted === 29 && dead === 1 && parked === 4
    )

    const { count } = await asking(url)
    const all = {
      persisted: await count("sluice.persisted_chunk where objects <> '[]'"),
      nothing_to_create: await count("sluice.persisted_chunk where objects = '[]'"),
      dead: await count("sluice.dead_letter"),
      parked: await count("sluice.chunk_queue where state = 'parked'"),
      retried: await count(
        "sluice.chunk_failure f where exists (select from sluice.chunk_queue q where q.call_id = f.call_id)"
      ),
      already_persisted: 0,
      released: 0,
      lost: 0
    }
    expect(all).toMatchObject({ persisted: 29, dead: 1, parked: 4 })
    for (const [name, expected] of Object.entries(all)) {
      expect({ name, is: await outcome(name) }).toEqual({ name, is: expected })
    }
    expect(Object.keys(all).sort()).toEqual([...Metrics.values[Metrics.chunks.id] ?? []].sort())
    const claimed = Object.values(all).reduce((sum, one) => sum + one, 0)
    expect(await figure("sluice_chunks_claimed_total")).toBe(claimed)
    expect(await figure("sluice_attempts_failed_total", { handler: "clinic/note" })).toBe(
      await count("sluice.chunk_failure")
    )
    expect(await figure("sluice_record_to_persist_seconds")).toBe(29)
    // what is recorded and redriven is counted where that is done
    expect(await figure("sluice_calls_total") + await figure("sluice_chunks_redriven_total")).toBe(0)
    const states = {
      ready: await count("sluice.chunk_queue where state = 'ready'"),
      scheduled: await count("sluice.chunk_queue where state = 'scheduled'"),
      waiting: await count("sluice.chunk_queue where state = 'waiting'"),
      parked: 4,
      dead: 1
    }
    for (const [state, expected] of Object.entries(states)) {
      // a scrape that waits for the database for too long has none
      await until(() => figure("sluice_queue_chunks", { state }), (count) => count === expected)
    }

    const families = await scrape()
    expect(families.filter(({ name }) => name.startsWith("sluice_") && !Metrics.names.includes(name))).toEqual([])
    for (const { help, name, type } of families.filter(({ name }) => name.startsWith("sluice_"))) {
      expect({ name, type, help }).toEqual({
        name,
        type: name.endsWith("_total")
          ? "COUNTER"
          : name.endsWith("_seconds") && !name.includes("age")
          ? "HISTOGRAM"
          : "GAUGE",
        help: expect.stringMatching(/./)
      })
    }
    running.child.kill("SIGTERM")
    expect((await running.ended).status).toBe(0)
  })

  it("is not ready when the database is not, and says why; its counters are served anyway", async () => {
    const url = await newDatabase()
    const place = await ward("good", { url, variables: { SLUICE_BEAT_INTERVAL: "1s" } })
    await place.record(1)
    const port = await freePort()
    const running = place.start("drain", "--every", "1h", "--metrics-port", port)
    const ready = (status: number, text: RegExp) => says(port, "ready", status, text)
    await ready(200, /^ready\n$/)
    expect(await get(port, "health")).toEqual({ status: 200, text: "ok\n" })
    const { hold, run } = await asking(url)

    // somebody else's worker is no reason to be ready
    await run("insert into sluice.worker (id, serves) values ('another', '[]')")
    // its own beats may come at any moment: as long as there is the trigger they are all of a minute ago
    await run(`create function late() returns trigger language plpgsql as $$ begin
      if new.id <> 'another' then new.beat_at := now() - interval '1 minute'; end if;
      return new;
    end $$`)
    await run("create trigger late before insert or update on sluice.worker for each row execute function late()")
    await run("update sluice.worker set beat_at = beat_at")
    await ready(503, /^1 of 1 workers here give no sign of life\n$/)
    await run("drop trigger late on sluice.worker")
    // until it beats again
    await ready(200, /^ready\n$/)

    const free = await hold("lock table sluice.chunk_queue, sluice.worker in access exclusive mode")
    await ready(503, /^the database does not answer in time\n$/)
    const scraped = await get(port, "metrics")
    expect(scraped.text).toContain("sluice_chunks_claimed_total")
    expect(scraped.text).not.toContain("sluice_queue_chunks")
    await free()
    await ready(200, /^ready\n$/)
    await until(() => get(port, "metrics"), ({ text }) => /^sluice_queue_chunks\{state="ready"\} 0$/m.test(text))

    // what its beat is refused
    await run("alter table sluice.worker rename column beat_at to beaten_at")
    await ready(503, /^the database refuses beat \(42703\): see the log, and `sluice doctor`\n$/)
    await run("alter table sluice.worker rename column beaten_at to beat_at")
    await ready(200, /^ready\n$/)
    // what only the question itself is refused
    await run("alter table sluice.migration rename column migration_id to number")
    await ready(503, /^the database refuses \(42703\): see `sluice doctor`\n$/)
    await run("alter table sluice.migration rename column number to migration_id")
    await run("delete from sluice.migration")
    await ready(503, /^migrations are missing\n$/)
    running.child.kill("SIGTERM")
    expect((await running.ended).status).toBe(0)
  })

  it("is not ready while the database refuses to settle, and says which right is missing; ready once that is granted", async () => {
    const url = await newDatabase()
    const { run } = await asking(url)
    const owner = await ward("good", { url })
    await owner.record(3)
    const { role, url: as } = await Effect.runPromise(Scope.provide(asRole(url, "drains"), scope))
    for (const grant of grants("sluice", role, ["worker"])) await run(grant)
    await run(`grant create on schema public to ${role}`)
    await run(`revoke insert on sluice.persisted_chunk from ${role}`)
    const place = await ward("good", { url: as })
    const port = await freePort()
    const running = place.start("drain", "--every", "100ms", "--metrics-port", port)
    await says(port, "ready", 503, new RegExp(`^probe: .*grant .* on sluice\\.persisted_chunk to "${role}".*\\n$`))
    // it goes on trying, and is no reason to be started again
    expect((await get(port, "health")).status).toBe(200)
    await run(`grant insert on sluice.persisted_chunk to ${role}`)
    await says(port, "ready", 200, /^ready\n$/)
    running.child.kill("SIGTERM")
    expect(await running.ended).toMatchObject({ status: 0 })
  })

  it("is not healthy when a worker has fallen silent, and says so under many connections", async () => {
    const url = await newDatabase()
    const place = await ward("good", {
      url,
      variables: { SLUICE_LEASE: "500ms", SLUICE_BEAT_INTERVAL: "200ms", SLUICE_STATEMENT_TIMEOUT: "1 hour" }
    })
    await place.record(1)
    const port = await freePort()
    const running = place.start("drain", "--every", "1h", "--metrics-port", port)
    await says(port, "health", 200, /^ok\n$/)
    const { count, hold } = await asking(url)
    await until(() => count("sluice.worker"), (workers) => workers === 1)
    // no statement of its beat comes back, as when its connection is half open
    const free = await hold("lock table sluice.worker in access exclusive mode")
    const sockets = Array.from({ length: 100 }, () => connect(Number(port), "127.0.0.1").on("error", () => undefined))
    await says(port, "health", 503, /^1 of 1 workers here have fallen silent: no beat has ended for \d+s\n$/)
    for (const socket of sockets) socket.destroy()
    await free()
    await says(port, "health", 200, /^ok\n$/)
    running.child.kill("SIGTERM")
    expect(await running.ended).toMatchObject({ status: 0 })
  })

  it("sends traces, metrics and its log by OTLP when an endpoint is set", async () => {
    const received = new Map<string, string>()
    const collector = createServer((request, response) => {
      let body = ""
      request.setEncoding("utf8").on("data", (text: string) => body += text).on("end", () => {
        received.set(request.url ?? "", (received.get(request.url ?? "") ?? "") + body)
        response.setHeader("content-type", "application/json").end("{}")
      })
    })
    const port = await new Promise<number>((resolve) =>
      collector.listen(0, "127.0.0.1", () => {
        const address = collector.address()
        resolve(address !== null && typeof address === "object" ? address.port : 0)
      })
    )
    const place = await ward("broken", { variables: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` } })
    // a command that soon ends sends what it counted before it does
    await place.record(3)
    expect(received.get("/v1/metrics")).toContain("sluice_calls_total")
    const { stderr, stdout } = await place.sluice("drain", "--until-empty")
    expect(stdout).toBe("3 claimed: 2 persisted, 1 dead\n")
    const traces = received.get("/v1/traces") ?? ""
    for (const part of ["Drain.batch", "sluice.call_id", "call-2", "\"service.name\"", "\"sluice\""]) {
      expect(traces).toContain(part)
    }
    expect(received.get("/v1/metrics")).toContain("sluice_queue_chunks")
    expect(received.get("/v1/logs")).toContain("a chunk is dead")
    expect(stderr).toContain("a chunk is dead")
    // payloads are nobody's business
    expect([...received.values()].join("")).not.toContain("note 2")
    await new Promise((resolve) => collector.close(resolve))
  })
})
