/**
 * The command as a user meets it, installed: begin, record dialogues, drain them with the example's handlers, look, break
 * a handler, see what is stuck, mend it, redrive, ask the doctor. As text and as JSON: all of it on Postgres, where what
 * loads no handlers runs in this process; on the embedded database, as processes, the way from the first command to the last
 * row.
 */
import * as Schema from "effect/Schema"
import * as fs from "node:fs"
import path from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import { DeadList, DeadMoved, DeadShown } from "../../src/cli/commands/dead.ts"
import { Diagnosis } from "../../src/cli/commands/doctor.ts"
import { HandlersReport } from "../../src/cli/commands/handlers.ts"
import { Made } from "../../src/cli/commands/init.ts"
import { Mended } from "../../src/cli/commands/mend.ts"
import { MigrationPlan, MigrationStatus } from "../../src/cli/commands/migrate.ts"
import { RecordReport } from "../../src/cli/commands/record.ts"
import { Shown } from "../../src/cli/commands/show.ts"
import { Status } from "../../src/cli/commands/status.ts"
import { Stuck } from "../../src/cli/commands/stuck.ts"
import { PauseList } from "../../src/cli/commands/upkeep.ts"
import { Failure } from "../../src/cli/Failed.ts"
import { Report } from "../../src/Drain.ts"
import { Pruned } from "../../src/Retention.ts"
import { newDatabase, until, type Workplace, workplace } from "./workplace.ts"

const root = path.resolve(import.meta.dirname, "../..")
const migrations = fs.readdirSync(path.join(root, "sql")).sort().map((file) => {
  const [, id = "", name = ""] = /^(\d+)_(.+)\.sql$/.exec(file) ?? []
  return { id: Number(id), name }
})
const shared = path.join(root, "../shared/data/mts-dialog-small")
const isShared = fs.existsSync(`${shared}.jsonl`)

const group = "chatlab.standardized_patient"
const says = (role: string, text: string, key?: string) => ({
  role,
  content: [{ type: "output_text", text }],
  item_meta: key === undefined ? {} : { key }
})
const call = (callId: string, simulationId: string, output: string, data: Schema.Json, more: object = {}) =>
  JSON.stringify({
    callId,
    namespace: "chatlab",
    service: `services.${group}.generate-${output.slice("patient-".length)}`,
    context: { simulationId },
    orderingKey: simulationId,
    outputs: [{ schema: `schemas.${group}.${output}`, version: 1, data }],
    ...more
  })

interface Dialogues {
  readonly lines: string
  readonly calls: number
  readonly bySchema: Readonly<Record<string, number>>
}

/** Dialogues of five answers each. */
const madeUp = (count: number): Dialogues => {
  const of = (n: number) => [
    call(`made-${n}-0`, `made-${n}`, "patient-initial", {
      messages: [says("patient", `It has hurt for ${n} days.`)],
      metadata: [says("assistant", String(20 + n), "age")]
    }),
    ...[1, 2, 3].map((reply) =>
      call(`made-${n}-${reply}`, `made-${n}`, "patient-reply", {
        image_requested: reply === 3,
        messages: [says("patient", `Answer ${reply}.`)]
      })
    ),
    call(`made-${n}-4`, `made-${n}`, "patient-results", { metadata: [says("assistant", "a strain", "finding")] })
  ]
  return {
    lines: `${Array.from({ length: count }, (_, n) => of(n)).flat().join("\n")}\n`,
    calls: 5 * count,
    bySchema: { "patient-initial": count, "patient-reply": 3 * count, "patient-results": count }
  }
}

/** The dialogues that are shared, or, where they are not, as many that are made up. */
const dialogues = (): Dialogues => {
  if (!isShared) return madeUp(100)
  const expected = JSON.parse(fs.readFileSync(`${shared}.expected.json`, "utf8"))
  return { lines: fs.readFileSync(`${shared}.jsonl`, "utf8"), calls: expected.calls, bySchema: expected.by_schema }
}

/** A note at the end of a dialogue, of a request that was traced. */
const results = (callId: string) =>
  call(callId, callId, "patient-results", { metadata: [says("assistant", "a meniscus", "knee")] }, {
    trace: { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", sampled: true }
  })

const narrow = (text: string) => {
  for (const line of text.split("\n")) expect(line.length, line).toBeLessThanOrEqual(80)
}
const severityOf = ({ findings }: typeof Diagnosis.Type, check: string) =>
  findings.find((one) => one.check === check)?.severity

const which = isShared ? "shared dialogues" : "made up dialogues, because ../shared/data is not there"

/** A working directory with the example's handlers. */
const withExample = async (url?: string) => {
  const place = await workplace(url)
  // as one copies an example
  fs.cpSync(path.join(place.folder, "../../node_modules/effect-sluice/examples/chatlab"), `${place.folder}/chatlab`, {
    recursive: true
  })
  return place
}

const named = migrations.map(({ id, name }) => `${String(id).padStart(4, "0")} ${name}`)

describe(`on Postgres, with ${which}`, { timeout: 240_000 }, () => {
  const told = dialogues()
  let place: Workplace
  beforeAll(async () => {
    place = await withExample(await newDatabase())
  }, 240_000)
  /** The handler of results does something else, instead of what it did. */
  const instead = (what: string) => {
    const source = fs.readFileSync(path.join(root, "examples/chatlab/handlers.ts"), "utf8")
    const line = "return yield* note(yield* open(call), output.metadata)"
    expect(source).toContain(line)
    place.file("chatlab/handlers.ts", source.replace(line, `${what}\n      ${line}`))
  }

  it("before there is anything it says what to do, and leaves nothing behind", async () => {
    const { status, stderr, stdout } = await place.inside("status")
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" })
    expect(stderr).toContain("run `sluice migrate`")
    expect((await place.asked(Failure, "status")).error).toMatch(/sluice (init|migrate)/)
    const doctor = await place.inside("doctor", "--json")
    expect(doctor.status).toBe(2)
    expect(Schema.decodeUnknownSync(Diagnosis)(JSON.parse(doctor.stdout)).severity).toBe("broken")
    expect(await place.asked(MigrationStatus, "migrate", "--status")).toEqual({
      migrations: migrations.map((one) => ({ ...one, applied: false }))
    })
    const plan = await place.asked(MigrationPlan, "migrate", "--dry-run")
    expect(plan.missing).toEqual(migrations)
    expect((await place.inside("migrate", "--dry-run")).stdout.split(";\n\n").length).toBe(plan.statements.length + 2)
    expect(fs.existsSync(path.join(place.folder, ".sluice"))).toBe(false)
  })

  it("init makes the tables and a place for settings; where there are handlers it adds none; migrate finds all done", async () => {
    expect(await place.asked(Made, "init")).toEqual({
      files: [".gitignore", "sluice.config.ts"],
      migrations: named
    })
    expect((await place.inside("init")).stdout)
      .toMatch(/^the tables were there\nnext.*:\n {2}npx sluice handlers\n {2}npx sluice doctor\n$/)
    expect((await place.inside("migrate")).stdout).toBe(named.map((one) => `${one}: applied before\n`).join(""))
    expect((await place.inside("migrate", "--dry-run")).stdout).toBe("-- nothing is missing\n")
  })

  it("record says which database, reports bad lines, and records what is missing when it is run again", async () => {
    const bad = `{\n${told.lines.split("\n", 1)[0]}\n`
    const first = await place.sluice("record", place.file("bad.jsonl", bad))
    expect(first).toMatchObject({ status: 1, stdout: "1 recorded, 0 known already, 1 refused\n" })
    expect(first.stderr).toContain("database: 127.0.0.1")
    expect(first.stderr).toMatch(/^line 1: not JSON/m)
    const all = place.file("dialogues.jsonl", told.lines)
    expect((await place.inside("record", all)).stdout)
      .toBe(`${told.calls - 1} recorded, 1 known already, 0 refused\n`)
    expect(await place.asked(RecordReport, "record", all))
      .toEqual({ recorded: 0, unchanged: told.calls, refused: [] })
  })

  it("drain, and status tells what became of them", async () => {
    const { status, stderr, stdout } = await place.sluice("drain", "--until-empty", "--workers", "2")
    expect({ status, stdout }).toEqual({ status: 0, stdout: `${told.calls} claimed: ${told.calls} persisted\n` })
    expect(stderr).toContain(
      "handlers: chatlab/persist/chatlab.ts: chatlab/patient-initial, chatlab/patient-reply, chatlab/patient-results"
    )
    const looked = await place.inside("status")
    narrow(looked.stdout)
    for (const [name, count] of Object.entries(told.bySchema)) {
      expect(looked.stdout).toMatch(new RegExp(`^chatlab/${name} +0 +0 +0 +0 +0 +0 +0 +${count}$`, "m"))
    }
    // who has left is not there any more
    expect(looked.stdout).toMatch(/^no worker is running$/m)
    const { kinds, workers } = await place.asked(Status, "status")
    expect(workers).toEqual([])
    expect(Object.fromEntries(kinds.map((kind) => [kind.schemaIdentity.split(".").at(-1), kind.persisted])))
      .toEqual(told.bySchema)
  })

  it("show leads from a row to the call that made it, and from a call to its rows", async () => {
    const { stdout } = await place.inside("show", "chatlab.Message:1")
    narrow(stdout)
    const [, callId = ""] = /^call (\S+) of chatlab\n {2}services\.chatlab\./.exec(stdout) ?? []
    expect(stdout).toContain("    chatlab.Message:1\n")
    expect(stdout).toMatch(/^ {2}context \{"simulationId":/m)
    const { calls: [call] } = await place.asked(Shown, "show", callId)
    expect(call?.chunks[0]?.ledger?.objects).toContainEqual({ type: "chatlab.Message", id: "1" })
    expect((await place.inside("show", "nobody")).stderr).toContain("there is no call nobody")
  })

  it("handlers names who serves what", async () => {
    expect((await place.sluice("handlers")).stdout).toMatch(
      /^chatlab\/patient-reply\n {2}schemas\.chatlab\.standardized_patient\.patient-reply, version 1$/m
    )
    const { handlers, kinds } = await place.asked(HandlersReport, "handlers")
    expect(handlers.map((handler) => handler.name)).toContain("chatlab/patient-results")
    expect(kinds.every(({ handler, schemaIdentity }) => handler === `chatlab/${schemaIdentity.split(".").at(-1)}`))
      .toBe(true)
  })

  it("a broken handler: what fails is stuck and what is refused is dead, and both say why", async () => {
    instead(`if (call.callId === "call-fails") yield* Effect.fail("the archive is closed")
      if (call.callId === "call-dies") yield* new Handler.HandlerRejected({ reason: "no such knee" })`)
    const parked = results("call-parked").replaceAll("patient-results", "patient-x-ray")
    const lines = [results("call-fails"), results("call-dies"), parked].join("\n")
    await place.inside("record", place.file("more.jsonl", lines))
    const { stdout } = await place.sluice("drain", "--until-empty")
    expect(stdout).toMatch(
      /^[34] claimed: [12] to be retried, 1 parked, 1 dead\n(1 chunk waits until later, the next until \S+Z \(in .*\)\n)?$/
    )

    const stuck = await place.inside("stuck")
    narrow(stuck.stdout)
    expect(stuck.stdout).toMatch(
      /^scheduled: call-fails chatlab\/patient-results\n {2}failed (once|\d times); (next in|due for) .*\n {2}latest error: .*the archive is closed$/m
    )
    expect(stuck.stdout).toMatch(
      /^parked: call-parked chatlab\/patient-x-ray\n {2}no handler, or it lacks a fitting table or a service: see `sluice handlers`$/m
    )
    expect(await place.asked(Stuck, "stuck", "--limit", "1")).toMatchObject({
      chunks: [{ why: "scheduled", callId: "call-fails" }, { why: "parked", callId: "call-parked" }],
      more: true
    })

    const shown = await place.inside("show", "call-parked")
    expect(shown.stdout).toMatch(
      /patient-x-ray: parked\n {4}no handler, or it lacks a fitting table or a service: see `sluice handlers`$/m
    )
    expect(shown.stdout).toContain("  trace 0af7651916cd43dd8448eb211c80319c, span b7ad6b7169203331\n")

    expect(await place.asked(DeadList, "dead", "list")).toMatchObject({
      counts: [{ reason: "rejected", count: 1 }],
      letters: [{ key: { callId: "call-dies" } }]
    })
    expect((await place.inside("dead", "list")).stdout).toContain("no such knee")
    // the tables print the last part of an identity
    for (const verb of [["list"], ["redrive", "--dry-run"]]) {
      expect((await place.inside("dead", ...verb, "--schema", "patient-results")).stderr).toContain(
        "note: --schema takes a whole identity, and patient-results is none: " +
          "is schemas.chatlab.standardized_patient.patient-results meant?\n"
      )
    }
    expect((await place.inside("dead", "show", "call-dies")).stdout).toContain("a meniscus")
    expect(await place.asked(DeadShown, "dead", "show", "call-dies")).toMatchObject({
      letters: [{ letter: { reason: "rejected" }, failures: [{ attempt: 1 }] }]
    })
    const { status, stdout: advice } = await place.inside("doctor")
    expect(status).toBe(1)
    expect(advice).toMatch(/^! {3}dead letters: 1\n {4}→ see `sluice dead list`/m)
    expect(advice).toMatch(
      /^! {3}handlers: none that can run for chatlab\/schemas\.chatlab\.standardized_patient\.patient-x-ray$/m
    )
  })

  it("mended: redriven, and gone on with", async () => {
    instead("")
    const careless = await place.inside("dead", "redrive")
    expect({ status: careless.status, stderr: careless.stderr }).toEqual({
      status: 1,
      stderr: expect.stringContaining("give a filter, or --all")
    })
    expect(await place.asked(DeadMoved, "dead", "redrive", "--reason", "rejected", "--dry-run"))
      .toMatchObject({ moved: 0, preview: [{ count: 1 }] })
    expect((await place.inside("dead", "redrive", "--reason", "rejected")).stdout).toMatch(/^1 redriven$/m)
    // what failed comes again when its time has come
    let persisted = 0
    await until(
      async () => persisted += (await place.asked(Report, "drain", "--until-empty")).persisted,
      (count) => count === 2
    )
    expect((await place.inside("dead", "list")).stdout).toBe("no dead letters\n")
  })

  it("pause and resume need a namespace, schema or --all, and warn about an unknown kind", async () => {
    expect((await place.inside("pause")).stderr).toContain("say which: --namespace, --schema, or --all")
    const misspelt = await place.inside("pause", "--namespace", "chatlap")
    expect(misspelt.stderr).toContain("nothing of chatlap/* is outstanding")
    await place.inside("resume", "--namespace", "chatlap")
    const paused = await place.inside("pause", "--namespace", "chatlab", "--because", "a move")
    expect(paused.stdout).toBe("paused: chatlab/*: a move\n")
    expect(paused.stderr).not.toContain("outstanding")
    await place.inside("record", place.file("paused.jsonl", results("call-paused")))
    expect(await place.asked(Report, "drain")).toMatchObject({ claimed: 1, parked: 1 })
    expect((await place.inside("show", "call-paused")).stdout).toMatch(/: parked\n {4}paused: see `sluice status`$/m)
    expect((await place.sluice("drain")).stderr).toContain("paused: chatlab/*: a move\n")
    expect(await place.asked(PauseList, "resume", "--namespace", "chatlab")).toEqual({ pauses: [] })
    expect((await place.inside("resume", "--namespace", "chatlab")).status).toBe(1)
    await place.inside("pause", "--namespace", "chatlab")
    await place.inside("pause", "--all")
    expect((await place.inside("resume", "--all")).stdout).toBe("nothing is paused\n")
    expect(await place.inside("resume", "--all")).toMatchObject({ status: 0, stdout: "nothing is paused\n" })
    expect(await place.asked(Report, "drain", "--until-empty")).toMatchObject({ persisted: 1 })
  })

  it("prune says what is forgotten", async () => {
    expect((await place.inside("prune")).status).toBe(1)
    expect((await place.inside("prune", "--payloads", "90d")).stdout).toContain("0 payloads")
    expect(await place.asked(Pruned, "prune", "--payloads", "90 days", "--dry-run")).toMatchObject({ payloads: 0 })
  })

  it("mend finds nothing to repair", async () => {
    expect(await place.asked(Mended, "mend")).toEqual({ mendings: [{ name: "waiting", count: 0 }] })
    expect((await place.inside("mend", "--dry-run")).stdout).toBe("nothing to repair\n")
  })

  it("the doctor finds what is left of all this, and no more", async () => {
    const diagnosis = await place.asked(Diagnosis, "doctor")
    expect(diagnosis.severity).toBe("attention")
    // the X-ray, that nobody has a handler for
    expect(diagnosis.findings.filter((one) => one.severity !== "ok").map((one) => one.check)).toEqual(["handlers"])
    expect(severityOf(diagnosis, "dead letters")).toBe("ok")
  })
})

describe(`on the embedded database, with ${which}`, { timeout: 240_000 }, () => {
  it("leads from nothing to the rows, in one folder, and the doctor is content", async () => {
    const told = dialogues()
    const place = await withExample()
    const before = await place.inside("status")
    expect(before).toMatchObject({
      status: 1,
      stdout: "",
      stderr: expect.stringContaining("there is no database: neither --url nor DATABASE_URL says which")
    })
    expect((await place.inside("doctor", "--json")).status).toBe(2)
    expect((await place.asked(MigrationPlan, "migrate", "--dry-run")).missing).toEqual(migrations)
    expect(fs.existsSync(path.join(place.folder, ".sluice"))).toBe(false)

    expect(await place.asked(Made, "init")).toEqual({
      files: [".gitignore", "sluice.config.ts"],
      migrations: named
    })
    expect((await place.inside("migrate")).stdout).toBe(named.map((one) => `${one}: applied before\n`).join(""))
    const recorded = await place.sluice("record", place.file("dialogues.jsonl", told.lines))
    expect(recorded).toMatchObject({ status: 0, stdout: `${told.calls} recorded, 0 known already, 0 refused\n` })
    expect(recorded.stderr).toContain("database: embedded, in ./.sluice")
    const drained = await place.sluice("drain", "--until-empty", "--workers", "2")
    expect(drained).toMatchObject({ status: 0, stdout: `${told.calls} claimed: ${told.calls} persisted\n` })
    const { kinds, workers } = await place.asked(Status, "status")
    expect(workers).toEqual([])
    expect(Object.fromEntries(kinds.map((kind) => [kind.schemaIdentity.split(".").at(-1), kind.persisted])))
      .toEqual(told.bySchema)
    expect((await place.inside("show", "chatlab.Message:1")).stdout).toMatch(/^call \S+ of chatlab\n/)
    expect((await place.asked(Diagnosis, "doctor")).severity).toBe("ok")
  })
})

it.runIf(isShared)("dialogues that are made up are as good as those that are shared", () => {
  const { lines: _, ...made } = madeUp(100)
  const { lines: __, ...told } = dialogues()
  expect(made).toEqual(told)
})
