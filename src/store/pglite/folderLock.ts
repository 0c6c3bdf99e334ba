/**
 * One opener at a time. PGlite itself opens a folder twice without a word, and two writers destroy it.
 *
 * The lock is a directory `sluice.lock` beside the data that holds one file, whose name says who has the folder. It is made
 * elsewhere and renamed into place, which fails where one stands that is not empty: of several at once one comes first.
 * What a dead process has left is emptied by its file's own name, so that whoever is slow removes nothing of its successor.
 *
 * It tells the processes of one machine (or one container) apart, not those of several that share a disk.
 */
import * as Effect from "effect/Effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { describe } from "../../internal/describe.ts"
import { EmbeddedFailed, FolderInUse } from "./errors.ts"

/** Who has the folder, and the file that says so. */
interface Holder {
  readonly file: string
  readonly pid: number
  /** When that process was started; `""` where the system does not tell. */
  readonly started: string
}

// the files of what this process has open, for systems that do not tell when a process was started
const open = new Set<string>()

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : ""

/** An answer for errors of these codes. */
const unless = <A>(codes: ReadonlyArray<string>, answer: A) => (error: unknown): A => {
  if (codes.includes(codeOf(error))) return answer
  throw error
}

/**
 * When a process was started, by the kernel's clock. A process's number alone says little: after a restart of its
 * container a program has the number it had before, and any other may get that of one that died.
 */
const startOf = async (pid: number): Promise<string> => {
  try {
    const stat = await fs.readFile(`/proc/${pid}/stat`, "utf8")
    const boot = await fs.readFile("/proc/sys/kernel/random/boot_id", "utf8")
    // the 3rd field and on; the 2nd is the program's name in brackets and may hold anything
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    // a dead process is listed until its parent has asked for it, which some never do
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
  // a plain file with the process's number in it, as it was once
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
    // a process of another user is there, though it may not be signalled
    return codeOf(error) === "EPERM"
  }
}

const isHolding = async ({ file, pid, started }: Holder): Promise<boolean> => {
  if (!isRunning(pid)) return false
  const now = await startOf(pid)
  if (started !== "" && now !== "") return started === now
  return pid !== process.pid || open.has(path.basename(file))
}

// each time around somebody else has taken the folder, or given it back
const tries = 1000

/** Takes the folder, and gives back the file that says so. Throws `FolderInUse` when somebody else has it. */
const take = async (folder: string): Promise<string> => {
  await fs.mkdir(folder, { recursive: true, mode: 0o700 })
  const lock = path.join(folder, "sluice.lock")
  const making = await fs.mkdtemp(`${lock}-`)
  try {
    // no two locks have one name, not even of one process
    const name = [process.pid, await startOf(process.pid), making.slice(lock.length + 1)].join(".")
    await fs.writeFile(path.join(making, name), "")
    for (let attempt = 1;; attempt++) {
      const holder = await holderOf(lock)
      if (holder !== undefined) {
        if (await isHolding(holder)) throw new FolderInUse({ folder, pid: holder.pid })
        // of a plain file a directory may have taken the place
        await fs.unlink(holder.file).catch(unless(["ENOENT", "EISDIR", "EPERM"], undefined))
      }
      // an empty directory is in the way on Windows only
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
    // gone when it was renamed
    await fs.rm(making, { recursive: true, force: true })
  }
}

const giveBack = async (file: string): Promise<void> => {
  open.delete(path.basename(file))
  await fs.rm(file, { force: true })
  await fs.rmdir(path.dirname(file)).catch(() => undefined)
}

/** Has a folder, made when it is not there, until the scope closes. Fails at once when somebody else has it. */
export const lockFolder = (folder: string) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () => take(folder),
      catch: (cause) =>
        cause instanceof FolderInUse
          ? cause
          : new EmbeddedFailed({ reason: `cannot lock ${folder}: ${describe(cause)}`, cause })
    }),
    (file) => Effect.promise(() => giveBack(file))
  )
