/**
 * The drain as a process: when it looks, what it serves, how it is stopped, and what it says of a mistake.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as fs from "node:fs"
import { createServer, type Server } from "node:net"
import path from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { RecordReport } from "../../src/cli/commands/record.ts"
import { Status } from "../../src/cli/commands/status.ts"
import { freshDatabase } from "../support/Postgres.ts"
import { cleanUp, workplace } from "./workplace.ts"

const scope = Scope.makeUnsafe()
afterAll(async () => {
  cleanUp()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

const onPostgres = async () => workplace(await Effect.runPromise(Scope.provide(freshDatabase(), scope)))
type Place = ReturnType<typeof workplace>

const until = async (what: () => Promise<boolean> | boolean) => {
  while (!(await what())) await new Promise((resolve) => setTimeout(resolve, 20))
}
const listening = () =>
  new Promise<{ readonly server: Server; readonly port: number }>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address()
      resolve({ server, port: address !== null && typeof address === "object" ? address.port : 0 })
    })
  })
const freePort = async () => {
  const { port, server } = await listening()
  await new Promise((resolve) => server.close(resolve))
  return String(port)
}
const isReady = async (port: string) =>
  (await fetch(`http://127.0.0.1:${port}/ready`).catch(() => undefined))?.status === 200

const done = async (place: Place) =>
  (await place.asked(Status, "status")).kinds.reduce((sum, kind) => sum + kind.persisted, 0)

/** A handler that never ends; it says that it began. */
const endless = (place: Place) => {
  place.handler("good")
  const file = path.join(place.folder, "persist/notes.ts")
  const text = fs.readFileSync(file, "utf8")
  place.file(
    "persist/notes.ts",
    text.replace(
      "yield* sql`create table",
      "console.error(\"begun\"); yield* Effect.never\n    yield* sql`create table"
    )
  )
}

describe("when it looks", () => {
  it("with --cron at its times only; with --every also when something is recorded", async () => {
    const place = await onPostgres()
    place.handler("good")
    const port = await freePort()
    // far from now, whenever now is
    const month = (new Date().getUTCMonth() + 6) % 12 + 1
    const nightly = place.start("drain", "--cron", `0 3 1 ${month} *`, "--metrics-port", port)
    await until(() => isReady(port))
    await place.sluice("record", place.file("first.jsonl", place.calls(3)))
    const eager = place.start("drain", "--every", "1 hour", "--namespace", "nobody")
    await until(() => eager.output.stderr.includes("draining"))
    expect(await done(place)).toBe(0)
    nightly.child.kill("SIGTERM")
    eager.child.kill("SIGTERM")
    expect((await nightly.ended).status).toBe(0)
    expect((await eager.ended).status).toBe(0)

    const hourly = place.start("drain", "--every", "1 hour")
    await until(async () => (await done(place)) === 3)
    await place.sluice("record", place.file("second.jsonl", place.calls(3, 4)))
    await until(async () => (await done(place)) === 6)
    hourly.child.kill("SIGTERM")
    expect((await hourly.ended).status).toBe(0)
  }, 60_000)
})

describe("what it serves", () => {
  it("with --until-empty as well, as long as that takes", async () => {
    const place = await onPostgres()
    endless(place)
    await place.sluice("record", place.file("calls.jsonl", place.calls(1)))
    const port = await freePort()
    const running = place.start("drain", "--until-empty", "--metrics-port", port)
    await until(() => isReady(port))
    running.child.kill("SIGTERM")
    expect((await running.ended).status).toBe(0)
  }, 60_000)

  it("on a port that is free", async () => {
    const place = await onPostgres()
    const { port, server } = await listening()
    // the same port on every address, as the drain asks for it
    const { status, stderr } = await place.sluice("drain", "--every", "1 second", "--metrics-port", String(port))
    expect({ status, says: stderr.match(/--metrics-port: .*/)?.[0] }).toEqual({
      status: 1,
      says: expect.stringContaining("EADDRINUSE")
    })
    await new Promise((resolve) => server.close(resolve))
    expect((await place.sluice("drain", "--metrics-port", "99999")).stderr).toContain("between 1 and 65535")
  }, 60_000)
})

describe("how it is stopped", () => {
  it("by one signal it waits for the grace period, by a second it ends at once; nothing is lost by that", async () => {
    const place = await onPostgres()
    endless(place)
    await place.sluice("record", place.file("calls.jsonl", place.calls(1)))
    const running = place.start("drain", "--every", "1 second")
    await until(() => running.output.stderr.includes("begun"))
    running.child.kill("SIGTERM")
    // it is still there: the handler has thirty seconds
    expect(await place.asked(Status, "status")).toMatchObject({ kinds: [{ inFlight: 1 }] })
    expect(running.child.exitCode).toBe(null)
    running.child.kill("SIGTERM")
    expect((await running.ended).status).toBe(130)
    expect(await place.asked(Status, "status")).toMatchObject({ kinds: [{ persisted: 0, dead: 0 }] })
  }, 60_000)

  it("under load it has persisted some, exits 0, and the rest is there for the next", async () => {
    const place = await onPostgres()
    place.handler("good")
    const many = place.file("many.jsonl", place.calls(5000))
    expect(await place.asked(RecordReport, "record", many)).toMatchObject({ recorded: 5000 })
    const running = place.start("drain", "--every", "1 second", "--workers", "2")
    await until(async () => (await done(place)) > 0)
    running.child.kill("SIGTERM")
    expect((await running.ended).status).toBe(0)
    const [left] = (await place.asked(Status, "status")).kinds
    expect(left).toMatchObject({ inFlight: 0, retrying: 0, dead: 0, parked: 0 })
    expect((left?.pending ?? 0) + (left?.persisted ?? 0)).toBe(5000)
    expect((await place.sluice("drain", "--until-empty", "--workers", "2")).status).toBe(0)
    expect(await done(place)).toBe(5000)
  }, 60_000)
})

describe("where its handlers are", () => {
  it("a folder, a glob, or an absolute one; a glob that finds nothing is a mistake", async () => {
    const place = await onPostgres()
    place.handler("good")
    for (const where of [".", "persist/*.ts", path.join(place.folder, "**/persist/*")]) {
      expect((await place.sluice("handlers", "--handlers", where)).stdout).toContain("schemas.clinic.ward.note")
    }
    const { status, stderr } = await place.sluice("drain", "--handlers", "perssist/*.ts")
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining("no module perssist/*.ts") })
  }, 60_000)
})

describe("its log", () => {
  it("is one line for each chunk that failed, without what was recorded", async () => {
    const place = await onPostgres()
    place.handler("broken")
    await place.sluice("record", place.file("calls.jsonl", place.calls(3)))
    const { stderr } = await place.sluice("drain", "--until-empty")
    const lines = stderr.split("\n").filter((line) => line.includes("level="))
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(/level=WARN .*message="a chunk is dead" sluice.call_id=call-2 .*sluice.reason=rejected/)
    expect(stderr).not.toContain("note 2")
  }, 60_000)
})
