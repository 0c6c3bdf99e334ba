/**
 * A Redis of the bench's own, if one is installed.
 */
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"

/** Where Redis is installed, if it is. */
export const redisServer = (): string | undefined =>
  (process.env["PATH"] ?? "").split(path.delimiter)
    .map((folder) => path.join(folder, "redis-server"))
    .find((file) => fs.existsSync(file))

/** A running Redis. */
export interface Redis {
  readonly port: number
  readonly stop: () => Promise<void>
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = net.createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resolve(port))
    })
  })

const settings = (port: number, folder: string): Readonly<Record<string, string | number>> => ({
  port,
  bind: "127.0.0.1",
  dir: folder,
  daemonize: "no",
  // what BullMQ's documentation asks for: the log of writes, flushed each second, and no key ever evicted
  appendonly: "yes",
  appendfsync: "everysec",
  "maxmemory-policy": "noeviction",
  // no snapshots and no rewriting of the log in the midst of a run, as Postgres makes no checkpoint there either
  save: "",
  "auto-aof-rewrite-percentage": 0
})

/** Starts a Redis and waits until it takes connections. */
export const startRedis = async (): Promise<Redis> => {
  const file = redisServer()
  if (file === undefined) throw new Error("no redis-server on the PATH")
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-redis-"))
  const port = await freePort()
  const options = Object.entries(settings(port, folder)).flatMap(([name, value]) => [`--${name}`, String(value)])
  const server = spawn(file, options, { stdio: ["ignore", "pipe", "inherit"] })
  const exited = new Promise<void>((resolve) => server.once("close", () => resolve()))
  const atExit = () => {
    server.kill("SIGKILL")
    fs.rmSync(folder, { recursive: true, force: true })
  }
  process.once("exit", atExit)
  await new Promise<void>((resolve, reject) => {
    let told = ""
    server.once("error", reject)
    server.once("close", () => reject(new Error(`redis stopped: ${told.slice(-2000)}`)))
    server.stdout.setEncoding("utf8").on("data", (text: string) => {
      told += text
      if (told.includes("Ready to accept connections")) resolve()
    })
  })
  return {
    port,
    stop: async () => {
      process.off("exit", atExit)
      server.kill("SIGTERM")
      await exited
      fs.rmSync(folder, { recursive: true, force: true })
    }
  }
}
