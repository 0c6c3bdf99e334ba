/**
 * What others wrote, on the screen: each printed field of each command, with each sort of hostile character in it. Nothing
 * of it reaches the terminal, no line begins with what the text wanted, and what is printed of a name can be given back.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import path from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import { word } from "../../src/internal/escape.ts"
import * as Migrations from "../../src/store/Migrations.ts"
import { hostile, hostileIn } from "../support/hostile.ts"
import { client } from "../support/Postgres.ts"
import { type Printed, run, workInEmptyFolder } from "./inProcess.ts"
import { newDatabase, noteHandler, ward } from "./workplace.ts"

/** The end of each hostile text: no line may begin with it. */
const forged = "FORGED"
const textOf = (index: number) => `t${index}${hostile[index]?.[1]}${forged}`
const indexes = hostile.map((_, index) => index)

/** Nothing steers, and nothing is forged. */
const expectHarmless = (what: string, printed: Pick<Printed, "stdout" | "stderr">) => {
  for (const stream of ["stdout", "stderr"] as const) {
    const text = printed[stream]
    expect([what, stream, hostileIn(text)]).toEqual([what, stream, []])
    const lines = text.split("\n").filter((line) => line.trimStart().startsWith(forged))
    expect([what, stream, lines]).toEqual([what, stream, []])
  }
}

const at = (millis: number): string => DateTime.formatIso(DateTime.makeUnsafe(millis))

/** Every text of every table, as somebody hostile would fill it, or edit it by hand. */
const fill = Effect.fnUntraced(function*(index: number) {
  const sql = yield* SqlClient.SqlClient
  const text = textOf(index)
  const error = `${text}\n${forged} a second line\n    at ${text}`
  const chunk = { schema_identity: text, part: text, namespace: text, schema_version: 1 }
  const call = (which: string) => `${which}${text}`
  for (const which of ["ok", "dead", "gone", "retry", "held", "lost", "wait", "park", "fail"]) {
    yield* sql`insert into sluice.service_call ${
      sql.insert({
        call_id: call(which),
        namespace: text,
        service: text,
        correlation_id: text,
        status: which === "fail" ? "failed" : "succeeded",
        context: JSON.stringify({ [text]: text }),
        trace: JSON.stringify({ traceId: text, spanId: text, sampled: true }),
        error: which === "fail" ? error : null
      })
    }`
    yield* sql`update sluice.service_call set outputs = array[${
      JSON.stringify({ schema: text, version: 1, part: text, data: { [text]: text } })
    }::json] where call_id = ${call(which)}`
  }
  const queued = { ...chunk, ordering_key: `k${text}` }
  const waits = { recorded_at: at(0), rank: at(0), due_at: at(0) }
  const soon = at((yield* Clock.currentTimeMillis) + 3_600_000)
  for (
    const row of [
      { call_id: call("retry"), state: "scheduled", attempts: 1, ...waits, due_at: soon },
      { call_id: call("held"), ...waits, leased_by: text, lease_until: soon, lease_token: crypto.randomUUID() },
      { call_id: call("lost"), ...waits, leased_by: text, lease_until: at(1), lease_token: crypto.randomUUID() },
      { call_id: call("wait"), state: "waiting", ...waits },
      { call_id: call("park"), state: "parked", parked_for: "no-handler", ...waits }
    ]
  ) yield* sql`insert into sluice.chunk_queue ${sql.insert({ ...queued, ...row })}`
  for (const call_id of [call("retry"), call("dead")]) {
    yield* sql`insert into sluice.chunk_failure ${
      sql.insert({
        call_id,
        schema_identity: text,
        part: text,
        attempt: 1,
        handler: text,
        kind: text,
        message: error
      })
    }`
  }
  for (const [which, discarded] of [["dead", false], ["gone", true]] as const) {
    yield* sql`insert into sluice.dead_letter ${
      sql.insert({
        ...chunk,
        call_id: call(which),
        seq: 0,
        position: 0,
        bytes: 1,
        priority: 0,
        ordering_key: `k${text}`,
        reason: "rejected",
        handler: text,
        message: error,
        attempts: 1,
        crashes: 0,
        recorded_at: at(0),
        ...discarded ? { discarded_at: at(yield* Clock.currentTimeMillis), discard_reason: error } : {}
      })
    }`
  }
  const objects = JSON.stringify([{ type: `T${text}`, id: `a:${text}` }])
  yield* sql`insert into sluice.persisted_chunk ${
    sql.insert({ ...chunk, call_id: call("ok"), handler: text, handler_version: 1, objects })
  }`
  const serves = JSON.stringify([{ namespace: text, schemaIdentity: text }])
  yield* sql`insert into sluice.worker ${sql.insert({ id: `${text}/${text}/${text}`, serves })}`
  yield* sql`insert into sluice.pause ${sql.insert({ namespace: text, schema_identity: `p${text}`, reason: error })}`
  yield* sql`insert into sluice.subscription ${sql.insert({ name: text, attempts: 1, last_error: error })}`
})

describe("what others wrote", { timeout: 240_000 }, () => {
  let url = ""
  let folder = ""
  beforeAll(async () => {
    folder = workInEmptyFolder()
    url = await newDatabase()
    await Effect.runPromise(
      Effect.gen(function*() {
        yield* Migrations.run
        for (const index of indexes) yield* fill(index)
      }).pipe(Effect.provide(client(url)), Effect.scoped)
    )
  }, 120_000)

  const calls = () => ["ok", "dead", "gone", "retry", "held", "lost", "wait", "park", "fail"]

  it("steers no terminal, on any screen", async () => {
    const lists: ReadonlyArray<ReadonlyArray<string>> = [
      ["status"],
      ["status", "--limit", "1000"],
      ["stuck", "--limit", "1000"],
      ["handlers", "--limit", "1000"],
      ["handlers", "--handlers", path.join(import.meta.dirname, "../../examples/chatlab")],
      ["doctor"],
      ["dead", "list", "--limit", "1000"],
      ["dead", "list", "--discarded", "--limit", "1000"],
      ["dead", "redrive", "--all", "--dry-run"],
      ["dead", "discard", "--all", "--dry-run", "--because", textOf(0)],
      ["pause", "--namespace", textOf(1), "--because", textOf(1)],
      ["resume", "--namespace", textOf(2)],
      ["prune", "--failures", "900d"],
      ["erase", "--correlation", "nobody's", "--because", textOf(0)],
      ["erase", "--list"],
      ["migrate", "--status"]
    ]
    let all = ""
    for (const args of lists) {
      for (const json of [[], ["--json"]]) {
        const printed = await run(...args, ...json, "--url", url)
        expectHarmless(args.join(" "), printed)
        all += printed.stdout
      }
    }
    // each of the texts was there, else nothing was shown
    for (const index of indexes) expect(all).toContain(`t${index}`)
  })

  it("steers no terminal where one call is shown, and its name can be given back as it is printed", async () => {
    // each call prints other fields, and each of them by the same gate: every text once, every call several times
    for (const [turn, index] of indexes.entries()) {
      const which = calls()[turn % calls().length] ?? ""
      const id = `${which}${textOf(index)}`
      const printed = await run("show", id, "--url", url)
      expectHarmless(`show ${which} ${index}`, printed)
      const [, name = ""] = /^call (".*?"|\S+) of /.exec(printed.stdout) ?? []
      expect(name).toBe(word(id))
      // as a shell hands it on
      const given = turn % 3 === 0 ? await run("show", name.replaceAll(/^"|"$/g, ""), "--url", url) : printed
      expect(given).toEqual(printed)
      if (turn % 3 === 1) expectHarmless(`show --json ${which} ${index}`, await run("show", id, "--json", "--url", url))
      const dead = ["dead", "show", `${turn % 2 === 0 ? "dead" : "gone"}${textOf(index)}`, "--url", url]
      expectHarmless(`dead show ${index}`, await run(...dead, ...turn % 4 < 2 ? [] : ["--json"]))
    }
  })

  it("names a row, a namespace and a schema that can be given back as well", async () => {
    for (const index of indexes.filter((index) => index % 6 === 0)) {
      const shown = (await run("show", `ok${textOf(index)}`, "--url", url)).stdout
      const object = shown.split("\n").at(-1)?.trim() ?? ""
      expect(object).toContain(forged)
      const found = await run("show", object.replaceAll(/^"|"$/g, ""), "--url", url)
      expect(found.stdout).toBe(shown)
      const name = word(textOf(index)).replaceAll(/^"|"$/g, "")
      for (const flag of ["--namespace", "--schema", "--handler"]) {
        const { stdout } = await run("dead", "list", flag, name, "--url", url)
        expect(stdout).toContain("rejected after 1 attempt")
        expect(stdout.split("rejected after").length).toBe(2)
      }
    }
  })

  it("steers no terminal where it is refused", async () => {
    const texts = [...indexes.map(textOf), `nul\u0000${forged}`, `half\ud800${forged}`]
    const call = {
      callId: "call-1",
      namespace: "clinic",
      service: "services.clinic.ward.take-notes",
      outputs: [{ schema: "schemas.clinic.ward.note", version: 1, data: 1 }]
    }
    const lines = texts.flatMap((text) => [
      { ...call, callId: text.repeat(20) },
      { ...call, namespace: text },
      { ...call, service: text },
      { ...call, orderingKey: text.repeat(40) },
      { ...call, priority: text },
      { ...call, [text]: 1, callId: 7 },
      { ...call, callId: "", context: { [text]: { "\u0000": 1 } } },
      { ...call, context: { [`${text}\u0000`]: 1 } },
      { ...call, outputs: [{ ...call.outputs[0], schema: text }] },
      { ...call, outputs: [{ ...call.outputs[0], part: text }, { ...call.outputs[0], part: text }] }
    ]).map((line) => JSON.stringify(line)).concat(texts.map((text) => `{"callId": ${text.replaceAll("\n", " ")}`))
    const file = path.join(folder, "calls.jsonl")
    fs.writeFileSync(file, lines.join("\n"))
    const printed = await run("record", file, "--url", url)
    expectHarmless("record", printed)
    expect(printed.stderr.split("\n").filter((line) => line.startsWith("line ")).length).toBeGreaterThan(300)
    expectHarmless("record --json", await run("record", file, "--json", "--url", url))
    for (const [index, text] of texts.entries()) {
      const server = ["--url", url]
      const away = `postgres://nobody@127.0.0.1:1/${encodeURIComponent(text.toWellFormed())}`
      const mistakes: ReadonlyArray<ReadonlyArray<string>> = [
        [text, ...server],
        ["status", `--${text}`, ...server],
        ["status", text, ...server],
        ["stuck", "--limit", text, ...server],
        ["drain", "--every", text, ...server],
        ["drain", "--cron", text, ...server],
        ["drain", "--for", text, ...server],
        ["dead", "list", "--reason", text, ...server],
        ["dead", "list", "--older-than", text, ...server],
        ["record", path.join(folder, text), ...server],
        ["status", "--log-level", text, ...server],
        ["status", "--url", away],
        ["show", text, ...server],
        ["dead", "show", text, ...server],
        ["resume", "--namespace", text, ...server],
        ["handlers", "--handlers", text, ...server]
      ]
      // all print what was typed by the same gate: they take turns, four to a text
      for (const args of mistakes.filter((_, which) => which % 4 === index % 4)) {
        expectHarmless(args.join(" "), await run(...args))
      }
    }
  })

  it("is shown as it is where it is harmless", async () => {
    await Effect.runPromise(
      SqlClient.SqlClient.use((sql) =>
        sql`insert into sluice.service_call (call_id, namespace, service, correlation_id, status, error) values
          ('Übergabe-看护', 'clinic', 'services.clinic.ward.take-notes', 'c', 'failed', 'der Arzt 👩🏽‍⚕️ sagt: “nein” – 看护')`
      ).pipe(Effect.provide(client(url)), Effect.scoped)
    )
    const { stdout } = await run("show", "Übergabe-看护", "--url", url)
    expect(stdout).toContain("call Übergabe-看护 of clinic")
    expect(stdout).toContain("der Arzt 👩🏽‍⚕️ sagt: “nein” – 看护")
  })
})

describe("the log of a drain", { timeout: 120_000 }, () => {
  it("is harmless, whatever is recorded, and whatever a handler prints on stdout is not the answer", async () => {
    const place = await ward("good", { variables: { SLUICE_MAX_ATTEMPTS: "1" } })
    place.file(
      "persist/notes.ts",
      noteHandler("good").replace(
        "yield* trouble(call.callId)",
        "console.log('printed'); yield* Effect.fail(new Error(output.text))"
      )
    )
    const lines = indexes.map((index) =>
      JSON.stringify({
        callId: `d${textOf(index)}`,
        namespace: "clinic",
        service: "services.clinic.ward.take-notes",
        outputs: [{
          schema: "schemas.clinic.ward.note",
          version: 1,
          part: textOf(index),
          data: { text: textOf(index) }
        }]
      })
    )
    expect((await place.sluice("record", place.file("calls.jsonl", lines.join("\n")))).status).toBe(0)
    const drained = await place.sluice("drain", "--until-empty", "--json", "--log-level", "all")
    expectHarmless("drain", drained)
    expect(JSON.parse(drained.stdout)).toMatchObject({ dead: hostile.length })
    expect(drained.stderr).toContain("printed")
    for (const index of indexes) expect(drained.stderr).toContain(`sluice.call_id=dt${index}`.slice(0, 18))
  })
})

describe("the gate", () => {
  it("is the only way to the screen", () => {
    const sources = fs.globSync("**/*.ts", { cwd: path.resolve(import.meta.dirname, "../../src/cli") })
    // help and mistakes are formatted by their own library; the launcher has no library yet
    const allowed = ["Help.ts", "print.ts", "Terminal.ts", "sluice.ts", "processEnd.ts"]
    const wrong = sources.filter((file) => !allowed.includes(file)).filter((file) => {
      const text = fs.readFileSync(path.resolve(import.meta.dirname, "../../src/cli", file), "utf8")
      return /\b[Cc]onsole\.(log|error|info|warn)|std(out|err)\.write\((?!"\\u001b)/.test(text)
    })
    expect(wrong).toEqual([])
  })

  it.skipIf(spawnSync("bash", ["-c", ":"]).status !== 0)("what it prints of a name is one word of a shell", () => {
    const words = indexes.map((index) => word(textOf(index)))
    const input = words.map((one) => `printf '%s\\0' ${one}\n`).join("")
    const { stdout } = spawnSync("bash", { input, encoding: "utf8" })
    expect(stdout.split("\0").slice(0, -1).map((one) => `"${one}"`)).toEqual(words)
  })
})
