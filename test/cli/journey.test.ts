/**
 * The command as a user meets it: record, drain, look, break a handler, mend it, redrive, ask the doctor.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as fs from "node:fs"
import { createServer } from "node:net"
import path from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { CallView } from "../../src/ChunkStore.ts"
import { DeadList, DeadMoved } from "../../src/cli/commands/dead.ts"
import { Diagnosis } from "../../src/cli/commands/doctor.ts"
import { HandlersReport } from "../../src/cli/commands/handlers.ts"
import { MigrationPlan, MigrationStatus } from "../../src/cli/commands/migrate.ts"
import { RecordReport } from "../../src/cli/commands/record.ts"
import { Status } from "../../src/cli/commands/status.ts"
import { Report } from "../../src/Drain.ts"
import { freshDatabase } from "../support/Postgres.ts"
import { cleanUp, workplace } from "./workplace.ts"

const root = path.resolve(import.meta.dirname, "../..")
const scope = Scope.makeUnsafe()
afterAll(async () => {
  cleanUp()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(address !== null && typeof address === "object" ? address.port : 0))
    })
  })

describe.each(["embedded", "postgres"])("on %s", { timeout: 180_000 }, (store) => {
  let place: ReturnType<typeof workplace>
  beforeAll(async () => {
    place = workplace(store === "embedded" ? undefined : await Effect.runPromise(Scope.provide(freshDatabase(), scope)))
  })

  it("before there are tables it says what to do", async () => {
    const { status, stderr } = await place.sluice("status")
    expect(status).toBe(1)
    expect(stderr).toContain("run `sluice migrate`")
    expect((await place.sluice("doctor")).status).toBe(2)
  })

  it("migrate", async () => {
    expect((await place.sluice("migrate", "--dry-run")).stdout).toContain(
      "create table if not exists sluice.service_call"
    )
    const { missing } = await place.asked(MigrationPlan, "migrate", "--dry-run")
    expect(missing).toMatchObject([{ id: 1, name: "tables" }])
    expect(await place.asked(MigrationStatus, "migrate", "--status")).toMatchObject({
      migrations: [{ applied: false }]
    })
    expect((await place.sluice("migrate")).stdout).toContain("0001 tables: applied now")
    expect(await place.asked(MigrationStatus, "migrate")).toMatchObject({ migrations: [{ applied: true }] })
  })

  it("record says which database, reports bad lines, and records what is missing when it is run again", async () => {
    const good = place.file("good.jsonl", place.calls(3))
    const first = await place.sluice("record", good)
    expect(first).toMatchObject({ status: 0, stdout: "3 recorded, 0 known already, 0 refused\n" })
    expect(first.stderr).toContain(store === "embedded" ? "database: embedded, in ./.sluice" : "database: 127.0.0.1")
    const more = place.file("more.jsonl", place.calls(3) + "{\n" + place.calls(1, 4))
    const second = await place.sluice("record", more)
    expect(second).toMatchObject({ status: 1, stdout: "1 recorded, 3 known already, 1 refused\n" })
    expect(second.stderr).toContain("line 4: not JSON")
    expect(await place.asked(RecordReport, "record", good)).toMatchObject({ recorded: 0, unchanged: 3 })
  })

  it("drain, with a handler that is broken for one of them", async () => {
    place.handler("broken")
    const { status, stderr, stdout } = await place.sluice("drain", "--until-empty")
    expect({ status, stdout }).toEqual({ status: 0, stdout: "4 claimed: 3 persisted, 1 dead\n" })
    expect(stderr).toContain("handlers: persist/notes.ts: clinic/note")
  })

  it("status, handlers and show tell what there is", async () => {
    const { stdout } = await place.sluice("status")
    expect(stdout).toMatch(/^kind +pending +due/)
    for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(80)
    expect(await place.asked(Status, "status")).toMatchObject({
      kinds: [{ namespace: "clinic", persisted: 3, dead: 1, pending: 0 }]
    })
    expect(await place.asked(HandlersReport, "handlers")).toMatchObject({
      handlers: [{ namespace: "clinic", schemaIdentity: "schemas.clinic.ward.note" }],
      kinds: [{ handler: "clinic/note" }]
    })
    expect(await place.asked(CallView, "show", "call-1")).toMatchObject({
      callId: "call-1",
      chunks: [{ state: "persisted" }]
    })
    expect((await place.sluice("show", "clinic.Note:call-3")).stdout).toContain("call call-3 of clinic")
    const nobody = await place.sluice("show", "nobody")
    expect(nobody.status).toBe(1)
    expect(nobody.stderr).toContain("there is no call nobody")
  })

  it("dead: list, show, and redrive once the handler is mended", async () => {
    expect(await place.asked(DeadList, "dead", "list")).toMatchObject({
      counts: [{ reason: "rejected", count: 1 }],
      letters: [{ key: { callId: "call-2" } }]
    })
    expect((await place.sluice("dead", "show", "call-2")).stdout).toContain("bed 2 is being moved")
    const careless = await place.sluice("dead", "redrive")
    expect(careless.status).toBe(1)
    expect(careless.stderr).toContain("give a filter, or --all")
    place.handler("good")
    const dry = await place.asked(DeadMoved, "dead", "redrive", "--reason", "rejected", "--dry-run")
    expect(dry).toMatchObject({ moved: 0, preview: [{ count: 1 }] })
    expect(await place.asked(DeadMoved, "dead", "redrive", "--reason", "rejected")).toMatchObject({ moved: 1 })
    expect(await place.asked(Report, "drain", "--until-empty")).toMatchObject({ claimed: 1, persisted: 1 })
    expect((await place.sluice("dead", "list")).stdout).toBe("no dead letters\n")
  })

  it("pause and resume", async () => {
    expect((await place.sluice("pause", "--namespace", "clinic", "--because", "a move")).stdout)
      .toBe("paused: clinic/*: a move\n")
    await place.sluice("record", place.file("paused.jsonl", place.calls(1, 50)))
    expect(await place.asked(Report, "drain")).toMatchObject({ parked: 1 })
    expect((await place.sluice("resume", "--namespace", "clinic")).stdout).toBe("nothing is paused\n")
    expect((await place.sluice("resume", "--namespace", "clinic")).status).toBe(1)
    expect(await place.asked(Report, "drain", "--until-empty")).toMatchObject({ persisted: 1 })
  })

  it("prune", async () => {
    expect((await place.sluice("prune")).status).toBe(1)
    expect((await place.sluice("prune", "--payloads", "90 days")).stdout).toContain("0 payloads")
  })

  it("the doctor finds nothing broken", async () => {
    const diagnosis = await place.asked(Diagnosis, "doctor")
    expect(diagnosis.findings.filter((one) => one.severity === "broken")).toEqual([])
    const checks = diagnosis.findings.map((one) => one.check)
    expect(checks).toEqual(
      expect.arrayContaining(["server", "clock", "migrations", "indexes", "autovacuum", "leases", "handlers", "age"])
    )
  })

  it("told to stop while it drains it lets handlers finish and ends with 0, and nothing is lost", async () => {
    await place.sluice("record", place.file("many.jsonl", place.calls(2000, 100)))
    place.handler("slow")
    const running = place.start("drain", "--every", "1 second", "--workers", "2")
    while (!fs.existsSync(path.join(place.folder, "began"))) await new Promise((resolve) => setTimeout(resolve, 20))
    running.child.kill("SIGTERM")
    expect((await running.ended).status).toBe(0)
    const { kinds: [stopped] } = await place.asked(Status, "status")
    // what was under way was finished, the rest was not begun; nothing is held, nothing was charged
    expect(stopped).toMatchObject({ dead: 0, inFlight: 0, retrying: 0 })
    expect(stopped?.persisted).toBeGreaterThan(5)
    expect(stopped?.pending).toBeGreaterThan(0)
    expect((stopped?.persisted ?? 0) + (stopped?.pending ?? 0)).toBe(2005)
    place.handler("good")
    expect((await place.sluice("drain", "--until-empty")).status).toBe(0)
    const { kinds } = await place.asked(Status, "status")
    expect(kinds).toMatchObject([{ persisted: 2005, dead: 0, pending: 0, inFlight: 0, retrying: 0 }])
  })

  const recorded = path.join(root, "../shared/data/mts-dialog-small")
  const hasData = fs.existsSync(`${recorded}.jsonl`)
  const here = hasData ? "" : ": SKIPPED, because ../shared/data with them is not here"
  it.skipIf(!hasData)(
    `recorded dialogues become the example's rows, by its handlers${here}`,
    async () => {
      const ward = workplace(
        store === "embedded" ? undefined : await Effect.runPromise(Scope.provide(freshDatabase(), scope))
      )
      const handlers = ["--handlers", path.join(root, "examples/**/persist/*.ts")]
      const expected = JSON.parse(fs.readFileSync(`${recorded}.expected.json`, "utf8"))
      expect((await ward.sluice("record", `${recorded}.jsonl`)).stdout)
        .toBe(`${expected.calls} recorded, 0 known already, 0 refused\n`)
      expect((await ward.sluice("record", `${recorded}.jsonl`)).stdout)
        .toBe(`0 recorded, ${expected.calls} known already, 0 refused\n`)
      expect(await ward.asked(Report, "drain", "--until-empty", "--workers", "2", ...handlers))
        .toMatchObject({ claimed: expected.calls, persisted: expected.calls })
      const { kinds } = await ward.asked(Status, "status")
      const counts = kinds.map((kind) => [kind.schemaIdentity.split(".").at(-1), kind.persisted])
      expect(Object.fromEntries(counts)).toEqual(expected.by_schema)
      // and back from a row to the call that made it
      const { stdout } = await ward.sluice("show", "chatlab.Message:1")
      expect(stdout).toMatch(/^call \S+ of chatlab, services\.chatlab\./)
      expect(stdout).toContain("chatlab.Message:1\n")
    }
  )
})

describe("a drain that is watched", () => {
  it("serves its figures, which are those of the tables, and whether it lives and is ready", async () => {
    const place = workplace(await Effect.runPromise(Scope.provide(freshDatabase(), scope)))
    place.handler("broken")
    await place.sluice("record", place.file("calls.jsonl", place.calls(30)))
    const port = await freePort()
    const running = place.start("drain", "--every", "100 millis", "--metrics-port", String(port))
    const get = async (what: string) => {
      const answer = await fetch(`http://127.0.0.1:${port}/${what}`).catch(() => undefined)
      return { status: answer?.status, text: (await answer?.text()) ?? "" }
    }
    while ((await get("ready")).status !== 200) await new Promise((resolve) => setTimeout(resolve, 50))
    expect(await get("health")).toEqual({ status: 200, text: "ok\n" })
    const figure = (text: string, outcome: string) =>
      [...text.matchAll(/^sluice_chunks_total\{(.*)\} (\d+)$/gm)]
        .filter(([, labels]) => labels?.includes(`outcome="${outcome}"`))
        .reduce((sum, [, , count]) => sum + Number(count), 0)
    let text = ""
    while (figure(text, "persisted") + figure(text, "dead") < 30) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      text = (await get("metrics")).text
    }
    const { kinds: [kind] } = await place.asked(Status, "status")
    expect(figure(text, "persisted")).toBe(kind?.persisted)
    expect(figure(text, "dead")).toBe(kind?.dead)
    expect(text).toMatch(/^sluice_record_to_persist_seconds_bucket\{.*le="\+Inf".*\} 29$/m)
    // every line is a comment or a sample, as the format wants
    for (const line of text.split("\n")) expect(line).toMatch(/^(#.*|[a-z_]+(\{([a-z_]+="[^"]*",?)*\})? [-+.e\d]+|)$/i)
    running.child.kill("SIGTERM")
    expect((await running.ended).status).toBe(0)
  }, 180_000)
})

describe("help", { timeout: 180_000 }, () => {
  it.each([
    [],
    ...["migrate", "record", "drain", "status", "handlers", "show", "prune", "pause", "resume", "doctor"]
      .map((name) => [name]),
    ...["list", "show", "redrive", "discard"].map((name) => ["dead", name])
  ])("sluice %s %s fits in 80 columns, and has an example", async (...path) => {
    const words = path.filter((word) => word !== undefined)
    const { status, stdout } = await workplace(undefined).sluice(...words, "--help")
    expect(status).toBe(0)
    expect(stdout).toMatch(words.length === 0 ? "SUBCOMMANDS" : new RegExp(`EXAMPLES[^]*sluice ${words.join(" ")}`))
    for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(80)
  })
})

describe("settings", () => {
  it("are those of the flags, then of the environment, then of sluice.config.ts", async () => {
    const [one, two, three] = await Promise.all(
      [1, 2, 3].map(() => Effect.runPromise(Scope.provide(freshDatabase(), scope)))
    )
    const nameOf = (url: string | undefined) => `database: ${new URL(url ?? "").host}${new URL(url ?? "").pathname}`
    const place = workplace(undefined)
    place.file("sluice.config.ts", `export default { DATABASE_URL: "${three}", SLUICE_SCHEMA: "answers" }`)
    const { stderr, stdout } = await place.sluice("migrate", "--dry-run")
    expect(stderr).toContain(nameOf(three))
    expect(stdout).toContain("create table if not exists \"answers\".service_call")
    const other = workplace(two)
    other.file("sluice.config.ts", `export default { DATABASE_URL: "${three}" }`)
    expect((await other.sluice("migrate", "--status")).stderr).toContain(nameOf(two))
    expect((await other.sluice("migrate", "--status", "--url", one ?? "")).stderr).toContain(nameOf(one))
  }, 180_000)
})

describe("a mistake", () => {
  it("is answered by one sentence and a status that is not 0", async () => {
    const place = workplace(undefined)
    const mistakes: ReadonlyArray<readonly [args: ReadonlyArray<string>, says: string]> = [
      [["statsu"], "status"],
      [["status", "--jsn"], "--json"],
      [["status", "--url", "not a url"], "is not a URL"],
      [["status", "--url", "postgres://nobody@127.0.0.1:1/none"], "ECONNREFUSED"],
      [["drain", "--every", "soon"], "is no duration"],
      [["drain", "--cron", "now and then"], "--cron: \"now and then\" is none"],
      [["drain", "--cron", "* * * * *", "--until-empty"], "give one"],
      [["drain", "--workers", "0"], "between 1 and 64"],
      [["record", "no-such-file.jsonl"], "there is no file no-such-file.jsonl"]
    ]
    for (const [args, says] of mistakes) {
      const { status, stderr, stdout } = await place.sluice(...args)
      expect({ args, status, stdout, said: stderr.includes(says) ? says : stderr })
        .toEqual({ args, status: 1, stdout: "", said: says })
      expect(stderr).not.toMatch(/^\s+at /m)
    }
  }, 180_000)

  it("of the address is a finding of the doctor's", async () => {
    const ended = await workplace(undefined).sluice("doctor", "--url", "postgres://nobody@127.0.0.1:1/none")
    expect(ended).toMatchObject({ status: 2, stderr: "database: 127.0.0.1:1/none\n" })
    expect(ended.stdout).toMatch(/^X {3}server: .*ECONNREFUSED.*\n {4}→ is the address right, and the server up\?\n$/)
  })

  it("of two who open one embedded database is told to the second", async () => {
    const place = workplace(undefined)
    const running = place.start("drain", "--every", "1 second")
    while (!running.output.stderr.includes("draining")) await new Promise((resolve) => setTimeout(resolve, 20))
    const { status, stderr } = await place.sluice("status")
    expect(status).toBe(1)
    expect(stderr).toContain(`.sluice is open in process ${running.child.pid}`)
    running.child.kill("SIGTERM")
    expect((await running.ended).status).toBe(0)
  }, 180_000)

  it("in a setting or in sluice.config.ts is named", async () => {
    const place = workplace(undefined)
    place.file("sluice.config.ts", "export default { SLUICE_BATCH_SIZE: -1 }")
    expect((await place.sluice("drain")).stderr).toContain("SLUICE_BATCH_SIZE is wrong: -1 is not a whole number")
    place.file("sluice.config.ts", "export const settings = {}")
    expect((await place.sluice("drain")).stderr).toContain("sluice.config.ts must export default an object of settings")
    place.file("sluice.config.ts", "throw new Error('no settings today')")
    const { status, stderr } = await place.sluice("drain")
    expect(status).toBe(1)
    expect(stderr).toContain("sluice.config.ts does not load: ")
    expect(stderr).toContain("no settings today")
  }, 180_000)

  it("in a handler module names the file, and nothing is drained", async () => {
    const place = workplace(undefined)
    const modules = [
      ["export const nothing = 1", "exports no handlers"],
      ["throw new Error(\"it is broken\")", "it is broken"],
      ["this is not a program", "does not load"]
    ] as const
    for (const [content, says] of modules) {
      place.file("persist/wrong.ts", content)
      const { status, stderr } = await place.sluice("drain")
      expect(status).toBe(1)
      expect(stderr).toContain("persist/wrong.ts")
      expect(stderr).toContain(says)
    }
    place.handler("good")
    fs.copyFileSync(path.join(place.folder, "persist/notes.ts"), path.join(place.folder, "persist/twice.ts"))
    fs.rmSync(path.join(place.folder, "persist/wrong.ts"))
    const { stderr } = await place.sluice("drain")
    expect(stderr).toContain("notes.ts and")
    expect(stderr).toContain("twice.ts")
    expect(stderr).toContain("--handlers")
  }, 180_000)
})
