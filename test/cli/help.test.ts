/**
 * Help and mistakes, without a process for each.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { it } from "@effect/vitest"
import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TestConsole from "effect/testing/TestConsole"
import { readFileSync } from "node:fs"
import path from "node:path"
import { describe, expect } from "vitest"
import { sluice, version } from "../../src/cli/command.ts"
import { kindTable, picture } from "../../src/cli/commands/status.ts"
import * as durationFlag from "../../src/cli/durationFlag.ts"
import * as Help from "../../src/cli/Help.ts"
import * as print from "../../src/cli/print.ts"

/** What a command line prints. */
const run = (...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const exit = yield* Effect.exit(Command.runWith(sluice, { version })(args))
    return {
      failed: exit._tag === "Failure",
      stdout: (yield* TestConsole.logLines).join("\n"),
      stderr: (yield* TestConsole.errorLines).join("\n")
    }
  }).pipe(Effect.provide([Help.layer, NodeServices.layer, TestConsole.layer]))

const commands = [
  ...[
    "init",
    "migrate",
    "record",
    "drain",
    "status",
    "stuck",
    "show",
    "usage",
    "handlers",
    "pause",
    "resume",
    "prune",
    "erase",
    "mend",
    "doctor"
  ]
    .map((name) => [name]),
  ...["list", "show", "redrive", "discard"].map((name) => ["dead", name]),
  ...["list", "show", "decode"].map((name) => ["invalid", name]),
  ...["reset", "skip", "remove", "rebase"].map((name) => ["subscriptions", name])
]
const readme = readFileSync(path.resolve(import.meta.dirname, "../../README.md"), "utf8")

describe("help", () => {
  for (const words of [[], ["dead"], ["invalid"], ["subscriptions"], ...commands]) {
    it.effect(`sluice ${words.join(" ")} fits in 80 columns, and has an example`, () =>
      Effect.gen(function*() {
        const { failed, stdout } = yield* run(...words, "--help")
        expect(failed).toBe(false)
        expect(stdout).toMatch(new RegExp(`EXAMPLES[^]*sluice ${words.join(" ")}`))
        for (const line of stdout.split("\n")) expect(line.length, line).toBeLessThanOrEqual(80)
      }))
  }

  it.effect("is in the README as it is printed", () =>
    Effect.gen(function*() {
      const { stdout } = yield* run("--help")
      expect(readme).toContain(`\`\`\`text\n${stdout.trimEnd()}\n\`\`\``)
    }))

  it.effect("completions are printed for each shell", () =>
    Effect.gen(function*() {
      for (const shell of ["bash", "zsh", "fish"]) {
        const { failed, stdout } = yield* run("--completions", shell)
        expect({ shell, failed }).toEqual({ shell, failed: false })
        for (const word of ["redrive", "metrics-port", "until-empty"]) expect(stdout).toContain(word)
      }
    }))
})

describe("a mistake", () => {
  const mistakes: ReadonlyArray<readonly [line: string, says: RegExp]> = [
    ["statsu", /status/],
    ["status --jsn", /--json/],
    [
      "status --frobnicate",
      /Unrecognized flag: --frobnicate.*\n\n {2}There are: --url, --json, --watch, --exact, --limit\n/
    ],
    ["dead list --frobnicate", /There are: [^]*--older-than/],
    ["frobnicate", /Unknown subcommand.*\n\n {2}There are: init, migrate, record, [^]*,\s+doctor\n/],
    ["--json-lines frobnicate", /There are: init, migrate, record/],
    ["dead redrive call-1", /Unexpected positional argument: "call-1"\n\n {2}Name a call by its flag: --call call-1\n/],
    ["drain --every soon", /--every: "soon" is not a duration: write 5s, 2h or 90d/],
    ["drain --every 0s", /--every: "0s" is not a duration/],
    ["drain --cron * --until-empty", /give one/],
    ["drain --for 8s --until-empty", /--until-empty, --every, --cron and --for are four ways to drain: give one/],
    ["drain --for 8s --every 1s", /give one/],
    ["drain --for soon", /--for: "soon" is not a duration: write 5s, 2h or 90d/],
    ["drain --cron never", /--cron: "never" is none; write "\*\/5/],
    ["drain --workers 0", /--workers: 0 is not between 1 and 64/],
    ["drain --metrics-port 99999", /--metrics-port: 99999 is not between 1 and 65535/],
    ["stuck --limit -1", /limit/],
    ["stuck --limit 0", /--limit: 0 is not a whole number above 0/],
    ["dead list --older-than yesterday", /"yesterday" is not a duration/],
    ["prune --payloads 3x", /"3x" is not a duration/],
    ["doctor --max-age old", /--max-age: "old" is not a duration/],
    ["subscriptions reset billing", /--to/],
    ["subscriptions skip billing", /--because/],
    ["subscriptions frobnicate", /Unknown subcommand.*\n\n {2}There are: reset, skip, remove, rebase\n/],
    ["status --url nowhere", /is not a URL/],
    ["status --url mysql://u:secret@db/x", /is not a URL of a Postgres server: write postgres:/],
    ["record no-such-file.jsonl", /there is no file no-such-file.jsonl/]
  ]
  for (const [line, says] of mistakes) {
    it.effect(`sluice ${line}: one sentence, on stderr`, () =>
      Effect.gen(function*() {
        const { failed, stderr, stdout } = yield* run(...line.split(" "))
        expect({ failed, stdout }).toEqual({ failed: true, stdout: "" })
        expect(stderr).toMatch(says)
        expect(stderr).not.toMatch(/^\s+at /m)
      }))
  }
})

describe("what is printed", () => {
  it("a span of time is read as people write it", () => {
    const millis = (text: string) =>
      Option.match(durationFlag.parse(text), { onNone: () => 0, onSome: Duration.toMillis })
    expect(["5s", "2h", "90d", "5 seconds", "1.5 h", "10min", "250ms", "1 week"].map(millis))
      .toEqual([5e3, 72e5, 7776e6, 5e3, 54e5, 6e5, 250, 6048e5])
    expect(["", "5", "s", "-5s", "0s", "5 parsecs", "Infinity"].map(millis)).toEqual([0, 0, 0, 0, 0, 0, 0])
  })

  it("of an error what it says, and where what does not decode", () => {
    expect(print.first("no bed\n  at ward (ward.ts:1)\n  at nurse.ts:2")).toBe("no bed")
    expect(print.first("Missing key\n  at [\"beds\"][0]\nExpected a text")).toBe("Missing key at [\"beds\"][0]")
    expect(print.first("Missing key\n  at [0][\"text\"]")).toBe("Missing key at [0][\"text\"]")
    expect(print.first("no bed\n    at [eval]:1:7")).toBe("no bed")
    expect(print.first("")).toBe("")
  })

  it("identities are told apart by the shortest ends", () => {
    const identities = ["schemas.a.ward.note", "schemas.a.dental.note", "schemas.a.ward.reply"]
    expect(identities.map(print.shortNames(identities))).toEqual(["ward.note", "dental.note", "reply"])
    expect(print.shortNames([])("schemas.a.ward.note")).toBe("schemas.a.ward.note")
    // what was edited manually may have any number of parts
    const odd = ["note", "ward.note", "", ".", "a.".repeat(50_000)]
    expect(odd.map(print.shortNames(odd))).toEqual(["note", "ward.note", "", ".", "a.".repeat(50_000)])
  })

  it("and that takes no longer for each when there are many of them", () => {
    // compared each with all they would take a quarter of an hour
    const identities = Array.from({ length: 20_000 }, (_, tenant) => `schemas.tenant${tenant}.ward.note`)
    const short = print.shortNames(identities)
    expect(short("schemas.tenant7.ward.note")).toBe("tenant7.ward.note")
  })

  it("a text is cut by its columns, and never within a character", () => {
    expect(print.clip("看护记录看护记录", 9)).toBe("看护记录…")
    expect(print.clip("a👩🏽‍⚕️b👩🏽‍⚕️c", 6)).toBe("a👩🏽‍⚕️b…")
    expect(print.clip("  a\n\tb\u001b[2J", 80)).toBe("  a b\\u001b[2J")
    const table = print.table(["kind", "count"], [["看护", 1], ["note", 200]])
    expect(table.split("\n")).toEqual(["kind  count", "看护      1", "note    200"])
  })

  const kind = (schemaIdentity: string, figure: number) => ({
    namespace: "chatlab",
    schemaIdentity,
    ready: figure,
    due: figure,
    inFlight: figure,
    scheduled: figure,
    waiting: figure,
    parked: figure,
    dead: figure,
    persisted: figure,
    newestVersion: 1,
    oldest: null,
    about: false
  })
  const chatlab = ["initial", "reply", "results"].map((name) => `schemas.chatlab.standardized_patient.patient-${name}`)
  const widest = (table: string) => Math.max(...table.split("\n").map((line) => line.length))

  it("the status of the chat laboratory keeps its names whole", () => {
    const table = kindTable(chatlab.map((identity) => kind(identity, 400)), 0)
    expect(widest(table)).toBeLessThanOrEqual(80)
    for (const name of ["initial", "reply", "results"]) expect(table).toContain(`chatlab/patient-${name} `)
  })

  it("names give way to figures, and only then figures are rounded", () => {
    const long = [...chatlab, "schemas.chatlab.standardized_patient.a-name-that-is-longer-than-anybody-would-like"]
    const cut = kindTable(long.map((identity) => kind(identity, 400)), 0)
    expect(widest(cut)).toBeLessThanOrEqual(80)
    expect(cut).toContain("chatlab/a-name-that-is")
    expect(cut).toContain(" 400")
    const large = kindTable(long.map((identity) => kind(identity, 12_345_678)), 0)
    expect(widest(large)).toBeLessThanOrEqual(80)
    expect(large).toContain(" 12M")
    expect(large).toContain("chatlab/patient-initial")
  })

  it("on a narrow terminal, columns without chunks are left out and no line is too long", () => {
    const calm = chatlab.map((identity) => ({ ...kind(identity, 0), ready: 12_345, persisted: 12_345_678 }))
    const table = kindTable(calm, 0, 50)
    expect(widest(table)).toBeLessThanOrEqual(50)
    expect(table.split("\n")[0]).toMatch(/^kind +ready +done +oldest$/)
    expect(table).toMatch(/ 12k +12M$/m)
    expect(widest(kindTable(calm, 0, 10))).toBe(10)
  })
})

describe("status --watch", () => {
  const counts = { ready: 3, due: 3, inFlight: 0, scheduled: 0, waiting: 0, parked: 0, dead: 0, newestVersion: 1 }
  const found = (persisted: number) => ({
    kinds: [{
      namespace: "clinic",
      schemaIdentity: "schemas.clinic.ward.note",
      ...counts,
      persisted,
      // recorded by a machine whose clock is ahead
      oldest: DateTime.makeUnsafe("2026-11-29T10:00:03Z"),
      about: false
    }],
    lastMinute: 20,
    workers: [],
    declared: [],
    pauses: []
  })
  const at = (time: string, persisted: number) => ({
    found: found(persisted),
    now: DateTime.makeUnsafe(time).epochMilliseconds
  })
  const layout = { database: "127.0.0.1:5432/clinic", height: 100, limit: 50, previous: undefined, width: 80 }
  const first = at("2026-11-29T10:00:00Z", 100)

  it("shows the time, the database, the rate since the last picture, and what the columns count", () => {
    expect(picture(first, layout)[0]).toBe("2026-11-29 10:00:00 UTC  127.0.0.1:5432/clinic")
    const [head, , ...lines] = picture(at("2026-11-29T10:00:02Z", 125), { ...layout, previous: first })
    expect(head).toBe("2026-11-29 10:00:02 UTC  127.0.0.1:5432/clinic  12.5 persisted per second")
    const text = lines.join(" ")
    for (const column of ["ready", "due", "fly", "sched", "wait", "park", "dead", "done", "oldest"]) {
      expect(text).toMatch(new RegExp(`${column}: \\w`))
    }
  })

  it("shows no negative rate and no negative age", () => {
    const picked = picture(at("2026-11-29T10:00:02Z", 90), { ...layout, previous: first }).join("\n")
    expect(picked).toContain("  0 persisted per second")
    expect(picked).toContain("  0 ms")
    // where the clock was set back there is no time to divide by
    expect(picture(at("2026-11-29T09:00:00Z", 100), { ...layout, previous: first })[0]).not.toContain("per second")
  })

  it("says that numbers are estimates, and how declared handlers persist", () => {
    const { found, now } = first
    const kinds = found.kinds.map((kind) => ({ ...kind, about: true }))
    const use = {
      handler: "clinic/note",
      inside: 7,
      claimed: { key: 2, version: 1 },
      refusal: "permission denied (42501)",
      unfit: null
    }
    const text = picture({ found: { ...found, kinds, declared: [use] }, now }, layout).join("\n")
    expect(text).toContain("about: more than 20000 chunks of a state are estimated; --exact counts them")
    expect(text).toContain("  clinic/note\n")
    expect(text).toContain("7 persisted inside the database, 3 by a worker: 2 with an ordering key")
    expect(text).toContain("the database refuses to persist its answers by itself: permission denied (42501)")
    expect(picture(first, layout).join("\n")).not.toMatch(/about:|declared/)
  })

  it("is never wider or higher than the terminal", () => {
    const lines = picture(at("2026-11-29T10:00:02Z", 125), { ...layout, previous: first, width: 30 })
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(30)
    expect(lines.slice(0, 3)).toEqual(["2026-11-29 10:00:02 UTC", "127.0.0.1:5432/clinic", "12.5 persisted per second"])
    expect(picture(first, { ...layout, height: 4 })).toHaveLength(4)
  })
})
