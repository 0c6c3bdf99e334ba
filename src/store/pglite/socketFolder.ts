/**
 * The folder of an embedded database's socket, in the temporary directory, accessible only to its owner. A process that is
 * killed leaves it behind; the next process that starts removes it.
 */
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

/** Removes the folders of killed processes. A folder that cannot be read stays. */
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

/** Creates a folder for a socket. */
export const make = (): Promise<string> => fs.mkdtemp(path.join(os.tmpdir(), prefix))

/** Removes it. */
export const remove = (folder: string): Promise<void> => fs.rm(folder, { recursive: true, force: true })

/** The path of the socket in a folder. */
export const socketIn = (folder: string): string => path.join(folder, socketName)
