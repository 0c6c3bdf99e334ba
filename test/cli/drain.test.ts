/**
 * The drain as a process: when it looks, what it serves, how it is stopped, and how many of it there may be.
 */
import path from "node:path"
import { describe, expect, it } from "vitest"
import { Drained } from "../../src/cli/commands/drain.ts"
import { RecordReport } from "../../src/cli/commands/record.ts"
import { Status } from "../../src/cli/commands/status.ts"
import { Report } from "../../src/Drain.ts"
import { freePort, listening, newDatabase, notes, until, ward, type Workplace, workplace } from "./workplace.ts"

const get = async (port: string, what: string) => {
  const answer = await fetch(`http://127.0.0.1:${port}/${what}`).catch(() => undefined)
  return { status: answer?.status, text: (await answer?.text()) ?? "" }
}
const ready = (port: string) => until(() => get(port, "ready"), ({ status }) => status === 200)

const done = async (place: Pick<Workplace, "asked">) =>
  (await place.asked(Status, "status")).kinds.reduce((sum, kind) => sum + kind.persisted, 0)

describe("when it looks", { timeout: 120_000 }, () => {
  it("with --cron at its times only; with --every also when something is recorded", async () => {
    const place = await ward("good")
    const port = await freePort()
    // far from now, whenever now is
    const month = (new Date().getUTCMonth() + 6) % 12 + 1
    const nightly = place.start("drain", "--cron", `0 3 1 ${month} *`, "--metrics-port", port)
    await ready(port)
    await place.record(3)
    const eager = place.start("drain", "--every", "1h", "--namespace", "nobody")
    await eager.says("draining")
    expect(await done(place)).toBe(0)
    nightly.child.kill("SIGTERM")
    eager.child.kill("SIGTERM")
    expect((await nightly.ended).status).toBe(0)
    expect((await eager.ended).status).toBe(0)

    const hourly = place.start("drain", "--every", "1h", "--json")
    await until(() => done(place), (count) => count === 3)
    await place.record(3, 4)
    await until(() => done(place), (count) => count === 6)
    hourly.child.kill("SIGTERM")
    const { status, stdout } = await hourly.ended
    // it says at its end what it came to
    expect({ status, report: JSON.parse(stdout) })
      .toMatchObject({ status: 0, report: { claimed: 6, persisted: 6 } satisfies Partial<Report> })
  })
})

describe("until nothing is due", { timeout: 120_000 }, () => {
  it("it says how many chunks wait until later, and until when", async () => {
    const place = await ward("good")
    await place.record(2)
    expect(await place.sluice("drain", "--until-empty")).toMatchObject({ stdout: "2 claimed: 2 persisted\n" })
    const notBefore = new Date(Date.now() + 25 * 3_600_000).toISOString()
    const [first, second] = notes(2, 3).trim().split("\n").map((line) => JSON.parse(line))
    const later = [first, second].map((call) => JSON.stringify({ ...call, notBefore })).join("\n")
    await place.inside("record", place.file("later.jsonl", later))
    const line = `2 chunks wait until later, the next until ${notBefore} (in 1 d)`
    expect(await place.sluice("drain", "--until-empty")).toMatchObject({ stdout: `nothing was due\n${line}\n` })
    expect(await place.asked(Drained, "drain", "--until-empty")).toMatchObject({ claimed: 0, later: { chunks: 2 } })
    expect((await place.sluice("drain", "--for", "1h")).stdout).toContain(line)
    // another namespace's are not waited for
    expect((await place.sluice("drain", "--until-empty", "--namespace", "elsewhere")).stdout).toBe("nothing was due\n")
  })
})

describe("for a limited time", { timeout: 120_000 }, () => {
  it("it ends in time, gives back what was slow at no cost, and ends well", async () => {
    const place = await ward("endless", { variables: { SLUICE_BATCH_SIZE: "2", SLUICE_HANDLER_TIMEOUT: "1 hour" } })
    await place.record(3)
    // as long as it takes here for a handler to begin
    let ended = await place.sluice("drain", "--for", "4s")
    for (let seconds = 8; !ended.stderr.includes("begun"); seconds *= 2) {
      ended = await place.sluice("drain", "--for", `${seconds}s`)
    }
    expect(ended).toMatchObject({ status: 0, stdout: "2 claimed: 2 released\n" })
    expect(await place.asked(Status, "status")).toMatchObject({
      kinds: [{ ready: 3, inFlight: 0, scheduled: 0, dead: 0 }],
      workers: []
    })
    place.handler("good")
    // nothing is due before the time is over
    expect(await place.asked(Report, "drain", "--for", "1h", "--workers", "2")).toMatchObject({ persisted: 3 })
  })

  it("stopped by a signal, it lets running handlers finish, claims no more, and reports how far it came", async () => {
    const place = await ward("waiting", { variables: { SLUICE_BATCH_SIZE: "2" } })
    await place.record(5)
    const running = place.start("drain", "--for", "1h")
    await running.says("begun")
    running.child.kill("SIGTERM")
    place.file("go", "")
    expect(await running.ended).toMatchObject({
      status: 143,
      stdout: "stopped before the end; 2 claimed: 2 persisted\n"
    })
  })

  it("reports a database that does not answer in time", async () => {
    const place = await ward("good")
    await place.record(1)
    const { status, stderr } = await place.sluice("drain", "--for", "1ms")
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringContaining("the time was over before anything could be drained")
    })
  })
})

describe("what it serves", { timeout: 120_000 }, () => {
  it("with --until-empty as well, on a port that is free", async () => {
    const place = await ward("waiting")
    await place.record(1)
    const port = await freePort()
    const running = place.start("drain", "--until-empty", "--metrics-port", port)
    await ready(port)
    const { close, port: taken } = await listening()
    const refused = await place.sluice("drain", "--every", "1s", "--metrics-port", String(taken))
    expect(refused).toMatchObject({ status: 1, stderr: expect.stringMatching(/--metrics-port: .*EADDRINUSE/) })
    await close()
    place.file("go", "")
    expect(await running.ended).toMatchObject({ status: 0, stdout: "1 claimed: 1 persisted\n" })
  })
})

describe("how many there may be", { timeout: 120_000 }, () => {
  it("eight workers with all their batches under way are ready, and end together within one grace period", async () => {
    const place = await ward("endless", {
      variables: { SLUICE_BATCH_SIZE: "1", SLUICE_GRACE_PERIOD: "4 seconds", SLUICE_LEASE: "3 seconds" }
    })
    await place.record(30)
    const port = await freePort()
    const running = place.start("drain", "--every", "1s", "--workers", "8", "--metrics-port", port)
    // two batches each, a transaction each
    await running.says("begun", { times: 16 })
    expect(await get(port, "ready")).toEqual({ status: 200, text: "ready\n" })
    const { kinds, workers } = await place.asked(Status, "status")
    expect(kinds).toMatchObject([{ inFlight: 16, ready: 14 }])
    expect(workers).toHaveLength(8)
    expect(new Set(workers.map(({ alive, pid }) => `${alive} ${pid}`))).toEqual(new Set([`true ${running.child.pid}`]))
    running.child.kill("SIGTERM")
    // one after the other they would take longer than the program's patience, which ends it with another status
    expect((await running.ended).status).toBe(0)
    expect((await place.asked(Status, "status")).kinds).toMatchObject([{ inFlight: 0, ready: 30, dead: 0 }])
  })
})

describe("how it is stopped", { timeout: 120_000 }, () => {
  it("by one signal it waits for the grace period, by a second it ends at once; nothing is lost by that", async () => {
    const place = await ward("endless")
    await place.record(1)
    const running = place.start("drain", "--every", "1s")
    await running.says("begun")
    running.child.kill("SIGTERM")
    // it is still there: the handler has thirty seconds
    expect(await place.asked(Status, "status")).toMatchObject({ kinds: [{ inFlight: 1 }] })
    expect(running.child.exitCode).toBe(null)
    running.child.kill("SIGTERM")
    expect((await running.ended).status).toBe(143)
    // it has not said that it leaves
    expect(await place.asked(Status, "status")).toMatchObject({
      kinds: [{ persisted: 0, dead: 0 }],
      workers: [{ pid: String(running.child.pid) }]
    })
  })

  it("under load it has persisted some, exits 0, and the rest is there for the next", async () => {
    const place = await ward("good")
    expect(await place.asked(RecordReport, "record", place.file("many.jsonl", notes(5000))))
      .toMatchObject({ recorded: 5000 })
    const running = place.start("drain", "--every", "1s", "--workers", "2")
    await until(() => done(place), (count) => count > 0)
    running.child.kill("SIGTERM")
    const { status, stdout } = await running.ended
    expect(status).toBe(0)
    const [left] = (await place.asked(Status, "status")).kinds
    expect(stdout).toBe(`stopped; ${left?.persisted} claimed: ${left?.persisted} persisted\n`)
    expect(left).toMatchObject({ inFlight: 0, scheduled: 0, dead: 0, parked: 0 })
    expect((left?.ready ?? 0) + (left?.persisted ?? 0)).toBe(5000)
    expect((await place.sluice("drain", "--until-empty", "--workers", "2")).status).toBe(0)
    expect(await done(place)).toBe(5000)
  })
})

describe("where its handlers are", { timeout: 120_000 }, () => {
  it("a folder, a glob, an absolute one, or SLUICE_HANDLERS; a glob that finds nothing is a mistake", async () => {
    const url = await newDatabase()
    const place = await ward("good", { url })
    await place.sluice("migrate")
    for (const where of [".", path.join(place.folder, "**/persist/*")]) {
      expect((await place.sluice("handlers", "--handlers", where)).stdout).toContain("schemas.clinic.ward.note")
    }
    const { status, stderr } = await place.sluice("drain", "--handlers", "perssist/*.ts")
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining("no module perssist/*.ts") })
    const elsewhere = await workplace(url, { SLUICE_HANDLERS: `${place.folder}/persist/*.ts` })
    expect((await elsewhere.sluice("drain")).stderr).toMatch(/^handlers: .*persist\/notes\.ts: clinic\/note$/m)
    const nowhere = await workplace(url)
    expect((await nowhere.sluice("handlers")).stdout).toBe("there are no handlers: nothing can be persisted here\n")
  })
})

describe("its log", { timeout: 120_000 }, () => {
  it("is one line for each chunk that failed, without what was recorded", async () => {
    const place = await ward("broken")
    await place.record(3)
    const { stderr } = await place.sluice("drain", "--until-empty")
    const lines = stderr.split("\n").filter((line) => line.includes("level="))
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(/level=WARN .*message="a chunk is dead" sluice.call_id=call-2 .*sluice.reason=rejected/)
    expect(stderr).not.toContain("note 2")
  })
})
