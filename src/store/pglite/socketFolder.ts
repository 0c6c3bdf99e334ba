/**
 * The folder of an embedded database's socket, in the temporary directory: only its owner can reach it. A process that is
 * killed leaves it behind; the next one that starts removes it.
 */
import * as fs from "node:fs/promises"
import { connect } from "node:net"
import * as os from "node:os"
import * as path from "node:path"

/** As a client of Postgres names a socket. */
const socketName = ".s.PGSQL.5432"
const prefix = "sluice-"
/** What is younger may be of a process that starts now, and does not listen yet. */
const young = 60_000

const isLeftBehind = async (folder: string, now: number): Promise<boolean> => {
  const stat = await fs.lstat(folder)
  if (!stat.isDirectory() || stat.uid !== process.geteuid?.() || now - stat.mtimeMs < young) return false
  const entries = await fs.readdir(folder, { withFileTypes: true })
  // whatever else begins with this name is not ours
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

/** Removes what processes have left that were killed. What cannot be looked at stays. */
export const sweep = async (now: number): Promise<void> => {
  const directory = os.tmpdir()
  const names = await fs.readdir(directory).catch((): Array<string> => [])
  for (const name of names) {
    if (!name.startsWith(prefix) || name.length !== prefix.length + 6) continue
    const folder = path.join(directory, name)
    if (await isLeftBehind(folder, now).catch(() => false)) {
      await fs.rm(folder, { recursive: true }).catch(() => undefined)
    }
  }
}

/** Makes one. */
export const make = (): Promise<string> => fs.mkdtemp(path.join(os.tmpdir(), prefix))

/** Removes one. */
export const remove = (folder: string): Promise<void> => fs.rm(folder, { recursive: true, force: true })

/** The socket in a folder. */
export const socketIn = (folder: string): string => path.join(folder, socketName)
