/**
 * SIGTERM and SIGINT while the command starts: heard from its first statement on, whatever it waits for, and its status
 * says that it was stopped.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as SqlClient from "effect/sql/SqlClient"
import { type ChildProcess, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import { createServer, type Socket } from "node:net"
import { describe, expect, it } from "vitest"
import { client } from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"
import { newDatabase, until, ward, workplace } from "./workplace.ts"

/**
 * Says when a program begins to listen for SIGTERM, and what it loads. Node itself hears signals before that, and forgets.
 */
const tells = `
import { writeSync } from "node:fs"
import { registerHooks } from "node:module"
const { on } = process
process.on = function(signal, listener) {
  on.call(this, signal, listener)
  if (signal === "SIGTERM") writeSync(2, "listens\\n")
  return this
}
registerHooks({
  resolve: (specifier, context, next) => {
    if (/^(.\\/main|effect)/.test(specifier)) writeSync(2, "loads " + specifier + "\\n")
    return next(specifier, context)
  }
})
`

const childOf = ({ pid }: ChildProcess): number => {
  try {
    return Number(fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim())
  } catch {
    return 0
  }
}

/** The beginning of a line that gives a process a world of its own, in which it is the first; where that is allowed. */
const alone = process.getuid?.() === 0
  ? ["unshare", "--pid", "--fork"]
  : ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
const mayBeAlone = spawnSync(alone[0] ?? "", [...alone.slice(1), "true"]).status === 0

describe("a signal", { timeout: 240_000 }, () => {
  const told = async () => {
    const { command: [node, bin], ...place } = await workplace("postgres://nobody@127.0.0.1:1/none")
    return { ...place, words: [node, "--import", `./${place.file("tells.mjs", tells)}`, bin, "drain", "--every", "1s"] }
  }

  it("is heard before anything else is loaded", async () => {
    for (const [signal, status] of [["SIGTERM", 143], ["SIGINT", 130]] as const) {
      const { run, words: [command = "", ...words] } = await told()
      const running = run(command, words)
      await running.says("listens")
      running.child.kill(signal)
      const { stderr, ...ended } = await running.ended
      expect(ended).toEqual({ status, stdout: "" })
      expect(stderr.split("\n")[0]).toBe("listens")
    }
  })

  it.skipIf(!mayBeAlone)("is heard by the first process of a container as well", async () => {
    const { run, words } = await told()
    const [command = "", ...begin] = alone
    const running = run(command, [...begin, ...words])
    await running.says("listens")
    process.kill(childOf(running.child), "SIGTERM")
    const { stderr, ...ended } = await running.ended
    expect(ended).toEqual({ status: 143, stdout: "" })
    expect(stderr.split("\n")[0]).toBe("listens")
  })

  it("is heard while a handler module is loaded", async () => {
    const place = await workplace(await newDatabase())
    place.file("persist/slow.ts", "console.error('loading'); await new Promise(() => {})\nexport {}")
    const running = place.start("drain", "--every", "1s")
    await running.says("loading")
    running.child.kill("SIGTERM")
    expect(await running.ended).toMatchObject({ status: 143, stdout: "" })
  })

  it("is heard while the database says nothing", async () => {
    const connections = new Set<Socket>()
    const server = createServer((socket) => connections.add(socket.on("error", () => {})))
    const port = await new Promise<number>((resolve) =>
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resolve(address !== null && typeof address === "object" ? address.port : 0)
      })
    )
    const place = await workplace(`postgres://nobody@127.0.0.1:${port}/silent?connect_timeout=60`)
    for (const args of [["drain", "--every", "1s"], ["status"], ["migrate"]]) {
      const before = connections.size
      const running = place.start(...args)
      await until(() => connections.size, (size) => size > before)
      running.child.kill("SIGTERM")
      expect([args, await running.ended]).toMatchObject([args, { status: 143, stdout: "" }])
    }
    for (const socket of connections) socket.destroy()
    server.close()
  })

  it("is heard while a migration waits for another one's transaction", async () => {
    const url = await newDatabase()
    const place = await workplace(url)
    const status = await Effect.runPromise(
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const other = yield* Effect.forkChild(
          sql.withTransaction(Effect.andThen(sql`create schema sluice`, Effect.never)),
          { startImmediately: true }
        )
        const waiting = sql<{ count: number }>`
          select count(*)::int as count from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
        const running = place.start("migrate")
        yield* untilIt(waiting, ([found]) => found?.count === 1)
        running.child.kill("SIGTERM")
        const { status } = yield* Effect.promise(() => running.ended)
        yield* Fiber.interrupt(other)
        return status
      }).pipe(Effect.provide(client(url)), Effect.scoped)
    )
    expect(status).toBe(143)
    expect((await place.sluice("migrate")).status).toBe(0)
  })

  it("lets what runs finish, also in a folder with a settings file, which is loaded at the start", async () => {
    const place = await ward("waiting")
    place.file("sluice.config.ts", "export default {}")
    await place.record(1)
    const running = place.start("drain", "--every", "1s")
    await running.says("begun")
    running.child.kill("SIGTERM")
    place.file("go", "")
    expect(await running.ended).toMatchObject({ status: 0, stdout: "stopped; 1 claimed: 1 persisted\n" })
  })

  it("of a terminal that is closed is one as well, though it comes twice: what runs finishes, and no crash is counted", async () => {
    const place = await ward("waiting")
    await place.record(1)
    const running = place.start("drain", "--every", "1s")
    await running.says("begun")
    running.child.kill("SIGHUP")
    running.child.kill("SIGHUP")
    place.file("go", "")
    expect(await running.ended).toMatchObject({ status: 0, stdout: "stopped; 1 claimed: 1 persisted\n" })
  })

  it("ends also what cannot be interrupted, and says so", async () => {
    const place = await workplace(await newDatabase(), { SLUICE_LOAD_TIMEOUT: "10min" })
    place.file(
      "persist/stubborn.ts",
      `import { Effect, Layer } from "effect"
      export const stubborn = Layer.effectDiscard(
        Effect.uninterruptible(Effect.andThen(Effect.sync(() => console.error("building")), Effect.never))
      )`
    )
    const running = place.start("drain", "--every", "1s")
    await running.says("building")
    running.child.kill("SIGTERM")
    expect(await running.ended).toMatchObject({
      status: 143,
      stderr: expect.stringContaining("stopped, although something did not end within the grace period")
    })
  })
})
