/**
 * The command as a process: where it begins, what sets it, how it is stopped, and what a terminal shows.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { describe, expect, it } from "vitest"
import type { RecordReport } from "../../src/cli/commands/record.ts"
import { Status } from "../../src/cli/commands/status.ts"
import { Failure } from "../../src/cli/Failed.ts"
import { installed } from "../support/installed.ts"
import { newDatabase, noteHandler, notes, until, ward, workplace } from "./workplace.ts"

describe("a first working place", { timeout: 120_000 }, () => {
  it("is made by init, and works to the end", async () => {
    const place = await workplace()
    const { stdout } = await place.sluice("init")
    // a second one says the same of what to do next
    expect((await place.sluice("init")).stdout)
      .toBe(`the tables were there\n${stdout.slice(stdout.indexOf("next:"))}`)
    const readme = fs.readFileSync(path.resolve(import.meta.dirname, "../../README.md"), "utf8")
    expect(readme).toContain(`\`\`\`text\n${stdout}`)
    // the commands it prints are run as they are printed
    const printed = [...stdout.matchAll(/^ {2}npx sluice (.*)$/gm)].map(([, line = ""]) => line.split(" "))
    const ran: Array<string> = []
    for (const words of printed) ran.push((await place.sluice(...words)).stdout)
    expect(ran).toEqual([
      expect.stringMatching(/^1 recorded/),
      "1 claimed: 1 persisted\n",
      expect.stringContaining("chatlab.Message:1")
    ])
    expect(fs.readFileSync(path.join(place.folder, ".gitignore"), "utf8")).toBe(".sluice\n")
  })

  it("without the packages beside it says what to install", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-alone-"))
    const launcher = path.join(await installed(), "node_modules/effect-sluice/dist/cli/sluice.js")
    for (const file of ["sluice.js", "packages.js"]) {
      fs.copyFileSync(path.join(path.dirname(launcher), file), path.join(folder, file))
    }
    fs.writeFileSync(path.join(folder, "package.json"), JSON.stringify({ type: "module" }))
    const { status, stderr, stdout } = spawnSync(process.execPath, ["sluice.js", "--help"], {
      cwd: folder,
      encoding: "utf8"
    })
    fs.rmSync(folder, { recursive: true })
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" })
    expect(stderr).toContain("npm install effect-sluice effect@~4.1.0 @effect/platform-node@~4.1.0 @effect/sql-pg")
    // which is what the package asks of those who install it
    const { peerDependencies } = JSON.parse(fs.readFileSync(path.join(launcher, "../../../package.json"), "utf8"))
    for (const name of ["effect", "@effect/platform-node", "@electric-sql/pglite", "@electric-sql/pglite-socket"]) {
      expect(stderr).toContain(`${name}@${peerDependencies[name]}`)
    }
  })
})

describe("settings", { timeout: 120_000 }, () => {
  it("are those of the flags, then of the environment, then of sluice.config.ts", async () => {
    const urls = ["one", "two", "three"].map((name) => `postgres://nobody@127.0.0.1:1/${name}`)
    const [one = "", two = "", three] = urls
    const config = `export default { DATABASE_URL: "${three}", SLUICE_JSON: true, SLUICE_WORKERS: 65 }`
    const place = await workplace()
    place.file("sluice.config.ts", config)
    const said = await place.sluice("status")
    expect(said.stderr).toContain("database: 127.0.0.1:1/three")
    expect((await place.sluice("drain")).stderr).toContain("SLUICE_WORKERS: 65 is not between 1 and 64")
    const other = await workplace(two)
    other.file("sluice.config.ts", config)
    expect((await other.sluice("status")).stderr).toContain("database: 127.0.0.1:1/two")
    expect((await other.sluice("status", "--url", one)).stderr).toContain("database: 127.0.0.1:1/one")
    // a flag for one way to drain wins over a variable for another
    const nightly = await workplace(two, { SLUICE_CRON: "0 3 * * *", SLUICE_EVERY: "5s" })
    expect((await nightly.sluice("drain")).stderr).toContain("give one")
    expect((await nightly.sluice("drain", "--until-empty")).stderr).toContain("database: 127.0.0.1:1/two")
  })

  it("that are invalid are named, and help does not read them", async () => {
    const place = await workplace()
    const wrong = [
      ["export default { SLUICE_BATCH_SIZE: -1 }", "SLUICE_BATCH_SIZE is wrong: -1 is not a whole number"],
      [
        "export default { SLUICE_BATCHSIZE: 1 }",
        "sluice.config.ts: there is no setting SLUICE_BATCHSIZE (did you mean SLUICE_BATCH_SIZE?); there are"
      ],
      ["export const settings = {}", "sluice.config.ts must export default an object of settings"],
      [
        "throw new Error('no settings today')",
        "sluice.config.ts does not load: no settings today (sluice.config.ts:1:7)"
      ]
    ] as const
    for (const [content, says] of wrong) {
      place.file("sluice.config.ts", content)
      const { status, stderr, stdout } = await place.sluice("drain")
      expect({ status, stdout }).toEqual({ status: 1, stdout: "" })
      expect(stderr).toContain(says)
      expect(stderr).not.toMatch(/^\s+at /m)
    }
    expect(await place.asked(Failure, "status")).toEqual({ error: expect.stringContaining("no settings today") })
    expect((await place.sluice("drain", "--help")).status).toBe(0)
  })
})

describe("a mistake", { timeout: 120_000 }, () => {
  it("is JSON as well, for programs", async () => {
    const place = await workplace("postgres://nobody@127.0.0.1:1/none")
    const away = await place.asked(Failure, "status")
    expect(away.error).toMatch(
      /^no Postgres server answers \(.*ECONNREFUSED.*\): is the address right, and the server up\?$/
    )
    // nobody tries again: the command has ended
    expect(away.error).not.toContain("again")
    expect((await place.asked(Failure, "stuck", "--limit", "0")).error).toContain("--limit: 0 is not")
    const ended = await place.sluice("doctor")
    expect(ended).toMatchObject({ status: 2, stderr: "database: 127.0.0.1:1/none\n" })
    expect(ended.stdout).toMatch(/^X {3}server: .*ECONNREFUSED.*\n {4}→ is the address right, and the server up\?\n$/)
  })

  it("of two processes that open one embedded database, the second one gets an error", async () => {
    const place = await workplace()
    place.file("persist/notes.ts", noteHandler("good"))
    const running = place.start("drain", "--every", "1s", "--embedded")
    await running.says("draining")
    const { status, stderr } = await place.sluice("status")
    expect(status).toBe(1)
    expect(stderr).toContain(`.sluice is open in process ${running.child.pid}`)
    expect((await place.inside("doctor", "--json")).status).toBe(2)
    expect((await place.inside("doctor")).stdout).toMatch(
      /^X {3}server: .* is open in process .*\n {4}→ fix that first/
    )
    running.child.kill("SIGTERM")
    expect(await running.ended).toMatchObject({ status: 0, stdout: "stopped; nothing was due\n" })
  })

  it("in a handler module names the file, and nothing is drained", async () => {
    const place = await workplace(await newDatabase())
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
    fs.rmSync(path.join(place.folder, "persist/wrong.ts"))
    place.file("persist/notes.ts", noteHandler("good"))
    place.file("persist/twice.js", noteHandler("good").replaceAll(/ as \(.*$/gm, "").replace("(callId) =>", "() =>"))
    const { stderr } = await place.sluice("drain")
    expect(stderr).toContain("notes.ts and")
    expect(stderr).toContain("twice.js")
    expect(stderr).toContain("--handlers")
  })
})

describe("a file that is a pipe", { timeout: 60_000 }, () => {
  it("is recorded like any other file", async () => {
    const place = await workplace(await newDatabase())
    const command = [...place.command, "record"].map((word) => `'${word}'`).join(" ")
    const calls = place.file("calls.jsonl", notes(3))
    const piped = await place.run("bash", ["-c", `${command} <(cat '${calls}')`]).ended
    expect(piped).toMatchObject({ status: 0, stdout: "3 recorded, 0 known already, 0 refused\n" })
  })
})

describe("stopped before its end", { timeout: 120_000 }, () => {
  it("record says how far it came, and ends with the signal's status", async () => {
    const place = await workplace(await newDatabase())
    /** What was read is recorded, though the pipe stays open and more may come. */
    const stopped = async (signal: "SIGTERM" | "SIGINT", first: number, recorded: number, ...flags: Array<string>) => {
      const running = place.start("record", "-", ...flags)
      running.child.stdin.write(notes(250, first))
      const status = async () => JSON.parse((await place.inside("status", "--json")).stdout)
      await until(status, ({ kinds }) => kinds?.[0]?.ready === recorded)
      running.child.kill(signal)
      return await running.ended
    }
    expect(await stopped("SIGTERM", 1, 250)).toMatchObject({
      status: 143,
      stdout: "stopped before the end; 250 recorded, 0 known already, 0 refused\n"
    })
    const { status, stdout } = await stopped("SIGINT", 1000, 500, "--json")
    const report: typeof RecordReport.Type = { recorded: 250, unchanged: 0, refused: [] }
    expect({ status, report: JSON.parse(stdout) }).toEqual({ status: 130, report })
  })

  it("drain --until-empty lets what runs finish, and says what it came to", async () => {
    const place = await ward("waiting", { variables: { SLUICE_BATCH_SIZE: "2" } })
    await place.record(10)
    for (const [signal, status] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
      fs.rmSync(path.join(place.folder, "go"), { force: true })
      const running = place.start("drain", "--until-empty")
      await running.says("begun")
      running.child.kill(signal)
      place.file("go", "")
      expect(await running.ended).toMatchObject({ status, stdout: "stopped before the end; 2 claimed: 2 persisted\n" })
    }
    expect((await place.asked(Status, "status")).kinds).toMatchObject([{ persisted: 4, ready: 6, inFlight: 0 }])
  })

  it("status --watch ends with 0, by a signal or when its output is closed", async () => {
    const place = await workplace(await newDatabase())
    await place.inside("migrate")
    const watching = place.start("status", "--watch")
    await watching.says("nothing is recorded", { on: "stdout", times: 2 })
    // the second picture has a rate: of what was persisted since the first
    expect(watching.output.stdout).toMatch(/^\d{4}-\d\d-\d\d \S+ UTC\s+127\S+\/\S+\s+0 persisted per second$/m)
    watching.child.kill("SIGINT")
    expect((await watching.ended).status).toBe(0)
    const command = [...place.command, "status", "--watch", "--json"].map((word) => `'${word}'`).join(" ")
    const piped = await place.run("bash", ["-c", `set -o pipefail; ${command} | head -n 1`]).ended
    expect({ status: piped.status, stderr: piped.stderr.replace(/^database: .*\n/, "") }).toEqual({
      status: 0,
      stderr: ""
    })
    expect(JSON.parse(piped.stdout)).toMatchObject({ kinds: [], workers: [] })
  })
})

const script = spawnSync("script", ["--version"], { encoding: "utf8" }).stdout ?? ""

describe.skipIf(!script.includes("util-linux"))("a terminal (by `script`, where that is)", { timeout: 120_000 }, () => {
  /** What a terminal of a place shows, in the order of its lines; what was drawn over is there as well. */
  const shown = async (place: Awaited<ReturnType<typeof ward>>, ...args: ReadonlyArray<string>) => {
    const command = [...place.command, ...args].map((word) => `'${word}'`).join(" ")
    const { stdout } = await place.run("script", ["-qec", command, "/dev/null"]).ended
    // what wipes a line stands as <wipe>
    return stdout.replaceAll("\r\n", "\n").replaceAll("\r\u001b[K", "<wipe>")
  }
  const bar = /<wipe>\[#*\.*\] /

  it("shows a bar that lines stand above, and that is gone at the end", async () => {
    const place = await ward("broken", { variables: { SLUICE_BATCH_SIZE: "10" } })
    const recorded = await shown(place, "record", place.file("calls.jsonl", notes(250) + "{\n" + notes(50, 251)))
    expect(recorded).toMatch(/<wipe>\[#+\.*\] \d+ calls, \d+ %/)
    // a refusal wipes the bar, and stands on a line of its own
    expect(recorded).toMatch(/<wipe>line 251: not JSON/)
    expect(recorded).toMatch(/<wipe>300 recorded, 0 known already, 1 refused\n$/)
    const drained = await shown(place, "drain", "--until-empty")
    expect(drained).toMatch(bar)
    expect(drained).toMatch(/\] \d+ of 300 chunks, \d+\/s, .* left/)
    // a line of the log is one line, and not on the bar's
    expect(drained).toMatch(/(^|\n|<wipe>)timestamp=\S+ level=WARN [^\r\n]*a chunk is dead[^\r\n]*call-2[^\r\n]*\n/)
    expect(drained).toMatch(/<wipe>300 claimed: 299 persisted, 1 dead\n$/)
  })

  it("that obeys no escape sequences gets none", async () => {
    const place = await ward("good", { variables: { TERM: "dumb" } })
    const recorded = await shown(place, "record", place.file("calls.jsonl", notes(50)))
    expect(recorded).toMatch(/^50 recorded, 0 known already, 0 refused$/m)
    const mistaken = await shown(place, "drane")
    expect(mistaken).toContain("Unknown subcommand")
    for (const sequence of ["\u001b", "<wipe>"]) expect(recorded + mistaken).not.toContain(sequence)
  })
})
