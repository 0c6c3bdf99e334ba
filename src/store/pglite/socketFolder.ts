/**
 * The folder of an embedded database's socket, in a temporary directory, accessible only to its owner. A process that is
 * killed leaves it behind; the next process that starts removes it.
 */
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import { connect } from "node:net"
import * as os from "node:os"
import * as path from "node:path"

/** The name that Postgres clients expect of a socket. */
const socketName = ".s.PGSQL.5432"
const prefix = "sluice-"
/** A younger folder may belong to a process that is starting and does not listen yet. */
const young = 60_000

const isLeftBehind = async (folder: string, now: number): Promise<boolean> => {
  const stat = await fs.lstat(folder)
  if (!stat.isDirectory() || stat.uid !== process.geteuid?.() || now - stat.mtimeMs < young) return false
  const entries = await fs.readdir(folder, { withFileTypes: true })
  // a folder with other content is not Sluice's
  if (entries.length !== 1 || entries[0]?.name !== socketName || !entries[0].isSocket()) return false
  return await new Promise((resolve) => {
    const socket = connect(path.join(folder, socketName))
    socket.on("connect", () => {
      socket.destroy()
      resolve(false)
    })
    socket.on("error", (error) => resolve("code" in error && error.code === "ECONNREFUSED"))
  })
}

/** The longest path that a socket may have on every system, in bytes. */
const longestPath = 103

/** The temporary directory; `/tmp` if it is not there, or so deep that a socket in it could not be opened. */
const temporary = (): string => {
  const own = path.resolve(os.tmpdir())
  if (process.platform === "win32") return own
  const length = Buffer.byteLength(path.join(own, `${prefix}XXXXXX`, socketName))
  return length <= longestPath && existsSync(own) ? own : "/tmp"
}

/** Removes the folders of killed processes. A folder that cannot be read stays. */
export const sweep = async (now: number): Promise<void> => {
  const directory = temporary()
  const names = await fs.readdir(directory).catch((): Array<string> => [])
  for (const name of names) {
    if (!name.startsWith(prefix) || name.length !== prefix.length + 6) continue
    const folder = path.join(directory, name)
    if (await isLeftBehind(folder, now).catch(() => false)) {
      await fs.rm(folder, { recursive: true }).catch(() => undefined)
    }
  }
}

/** Creates a folder for a socket. */
export const make = async (): Promise<string> => {
  const folder = await fs.mkdtemp(path.join(temporary(), prefix))
  // the umask may have removed the owner's permissions
  await fs.chmod(folder, 0o700)
  return folder
}

/** Removes it. */
export const remove = (folder: string): Promise<void> => fs.rm(folder, { recursive: true, force: true })

/** The path of the socket in a folder. */
export const socketIn = (folder: string): string => path.join(folder, socketName)
