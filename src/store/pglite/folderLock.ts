/**
 * Allows one opener of a folder at a time. PGlite itself opens a folder twice without an error, and two writers destroy it.
 *
 * The lock is a directory `sluice.lock` beside the data. It contains one file, whose name identifies the holder. It is
 * created under another name and renamed into place. The rename fails if a directory that is not empty is there, so only one
 * of several processes succeeds. To clear a dead process's lock, its file is removed by name: a slow process then cannot
 * remove the lock of a successor.
 *
 * It distinguishes the processes of one machine (or one container), not those of several that share a disk.
 */
import * as Effect from "effect/Effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { describe } from "../../internal/describe.ts"
import { fileProblem } from "../../internal/fileProblem.ts"
import { EmbeddedFailed, FolderInUse } from "./errors.ts"

/** The process that holds the folder, and its file. */
interface Holder {
  readonly file: string
  readonly pid: number
  /** When that process was started; `""` if the system does not report it. */
  readonly started: string
}

// the files of locks that this process holds, for systems that do not report when a process was started
const open = new Set<string>()

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : ""

/** Returns `answer` for errors with these codes, and rethrows others. */
const unless = <A>(codes: ReadonlyArray<string>, answer: A) => (error: unknown): A => {
  if (codes.includes(codeOf(error))) return answer
  throw error
}

/**
 * When a process was started, by the kernel's clock. A process id alone is ambiguous: after a restart of its container a
 * program gets the same id again, and another program can get the id of one that has ended.
 */
const startOf = async (pid: number): Promise<string> => {
  try {
    const stat = await fs.readFile(`/proc/${pid}/stat`, "utf8")
    const boot = await fs.readFile("/proc/sys/kernel/random/boot_id", "utf8")
    // the fields from the 3rd on; the 2nd is the program's name in parentheses and may contain anything
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    // a dead process is listed until its parent has collected it, which some parents never do
    return fields[0] === "Z" ? "ended" : `${fields[19]}-${boot.trim()}`
  } catch {
    return ""
  }
}

const holderOf = async (lock: string): Promise<Holder | undefined> => {
  const entries = await fs.readdir(lock).catch((error: unknown) => {
    if (codeOf(error) === "ENOENT") return []
    if (codeOf(error) === "ENOTDIR") return undefined
    throw error
  })
  // the former format: a plain file that contains the process id
  if (entries === undefined) {
    const text = await fs.readFile(lock, "utf8").catch(unless(["ENOENT", "EISDIR"], ""))
    return { file: lock, pid: Number(text), started: "" }
  }
  const [entry] = entries
  if (entry === undefined) return undefined
  const [pid, started = ""] = entry.split(".")
  return { file: path.join(lock, entry), pid: Number(pid), started }
}

const isRunning = (pid: number): boolean => {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: the process exists but belongs to another user
    return codeOf(error) === "EPERM"
  }
}

const isHolding = async ({ file, pid, started }: Holder): Promise<boolean> => {
  if (!isRunning(pid)) return false
  const now = await startOf(pid)
  if (started !== "" && now !== "") return started === now
  return pid !== process.pid || open.has(path.basename(file))
}

// in each attempt, another process has taken or released the folder
const tries = 1000

/** Takes the folder, and returns the lock's file. Throws `FolderInUse` when another holder has it. */
const take = async (folder: string): Promise<string> => {
  await fs.mkdir(folder, { recursive: true, mode: 0o700 })
  const lock = path.join(folder, "sluice.lock")
  const making = await fs.mkdtemp(`${lock}-`)
  try {
    // unique for each lock, even within one process
    const name = [process.pid, await startOf(process.pid), making.slice(lock.length + 1)].join(".")
    await fs.writeFile(path.join(making, name), "")
    for (let attempt = 1;; attempt++) {
      const holder = await holderOf(lock)
      if (holder !== undefined) {
        if (await isHolding(holder)) throw new FolderInUse({ folder, pid: holder.pid })
        // a directory may have replaced the plain file
        await fs.unlink(holder.file).catch(unless(["ENOENT", "EISDIR", "EPERM"], undefined))
      }
      // only on Windows does an empty directory prevent the rename
      await fs.rmdir(lock).catch(() => undefined)
      try {
        await fs.rename(making, lock)
        open.add(name)
        return path.join(lock, name)
      } catch (error) {
        if (attempt >= tries) throw error
      }
    }
  } finally {
    // absent after a successful rename
    await fs.rm(making, { recursive: true, force: true })
  }
}

const giveBack = async (file: string): Promise<void> => {
  open.delete(path.basename(file))
  await fs.rm(file, { force: true })
  await fs.rmdir(path.dirname(file)).catch(() => undefined)
}

/** Locks a folder, created if absent, until the scope closes. Fails immediately when another holder has it. */
export const lockFolder = (folder: string) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () => take(folder),
      catch: (cause) =>
        cause instanceof FolderInUse
          ? cause
          : new EmbeddedFailed({
            reason: `cannot lock ${folder}: ${fileProblem(cause, folder) ?? describe(cause)}`,
            cause
          })
    }),
    (file) => Effect.promise(() => giveBack(file))
  )
