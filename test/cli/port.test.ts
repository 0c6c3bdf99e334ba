/**
 * The metrics port: on which address it listens, and that a probe is answered whatever others do with it.
 */
import { connect, type Socket } from "node:net"
import { afterEach, describe, expect, it } from "vitest"
import { freePort, newDatabase, noteHandler, until, workplace } from "./workplace.ts"

const sockets = new Set<Socket>()
afterEach(() => {
  for (const socket of sockets) socket.destroy()
  sockets.clear()
})

/** A connection that sends this, and no more. */
const idle = (port: string, text: string): Promise<Socket> =>
  new Promise((resolve) => {
    const socket = connect(Number(port), "127.0.0.1")
    sockets.add(socket)
    socket.resume().on("error", () => resolve(socket)).on("connect", () => {
      if (text !== "") socket.write(text)
      resolve(socket)
    })
  })

const health = async (port: string, host = "127.0.0.1"): Promise<number> => {
  const response = await fetch(`http://${host}:${port}/health`, { headers: { connection: "close" } })
  return response.status
}

const isListening = (port: string) => health(port).then(() => true, () => false)

describe("the metrics port", { timeout: 240_000 }, () => {
  const drain = async (variables: Readonly<Record<string, string>> = {}, ...args: ReadonlyArray<string>) => {
    const place = await workplace(await newDatabase(), variables)
    place.file("persist/notes.ts", noteHandler("good"))
    const port = await freePort()
    const command = [...place.command, "drain", "--every", "1s", "--metrics-port", port, ...args]
    // few files, as of a process in a tight container
    const running = place.run("bash", ["-c", `ulimit -n 128; exec ${command.map((word) => `'${word}'`).join(" ")}`])
    await until(() => isListening(port))
    return { port, running }
  }

  it("answers a probe under hundreds of connections that say little, and does not wait for them at its end", async () => {
    const { port, running } = await drain()
    const heads = [
      "",
      "GET /health HTTP/1.1\r\nHost: x\r\nX: ",
      "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"
    ]
    for (let round = 0; round < 3; round++) {
      await Promise.all(Array.from({ length: 200 }, (_, index) => idle(port, heads[index % heads.length] ?? "")))
      expect(await health(port)).toBe(200)
    }
    // all are given up in the end, the youngest as well
    await until(() => [...sockets].every((socket) => socket.destroyed))
    expect(await health(port)).toBe(200)
    await Promise.all(heads.map((head) => idle(port, head)))
    running.child.kill("SIGTERM")
    expect(await running.ended).toMatchObject({ status: 0, stdout: "stopped; nothing was due\n" })
  })

  it("listens on all addresses, or on the one that is named", async () => {
    const all = await drain()
    expect(await health(all.port, "127.0.0.2")).toBe(200)
    all.running.child.kill("SIGTERM")
    await all.running.ended
    for (const how of [[{ SLUICE_METRICS_HOST: "127.0.0.1" }], [{}, "--metrics-host", "127.0.0.1"]] as const) {
      const [variables, ...args] = how
      const one = await drain(variables, ...args)
      expect(await health(one.port)).toBe(200)
      await expect(health(one.port, "127.0.0.2")).rejects.toThrow("fetch failed")
      one.running.child.kill("SIGTERM")
      await one.running.ended
    }
  })

  it("on an address that is not this machine's is refused by its names", async () => {
    const place = await workplace(await newDatabase())
    place.file("persist/notes.ts", noteHandler("good"))
    const port = await freePort()
    const { status, stderr } = await place.sluice(
      "drain",
      "--every",
      "1s",
      "--metrics-port",
      port,
      "--metrics-host",
      "192.0.2.1"
    )
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(/--metrics-port and --metrics-host: .*EADDRNOTAVAIL/)
    })
  })
})
