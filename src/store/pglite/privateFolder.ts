/**
 * Makes the folder of an embedded database private to its owner, like Postgres requires. PGlite makes its files readable and
 * writable for all users, whatever the umask, so only the folder protects them.
 *
 * Windows manages permissions differently, through the parent folder: nothing is changed there.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { describe } from "../../internal/describe.ts"
import { fileProblem } from "../../internal/fileProblem.ts"
import { quote } from "../../internal/quote.ts"
import { EmbeddedFailed } from "./errors.ts"

const ofOwner = 0o700
const ofOthers = 0o077
const writableByGroup = 0o020
const writableByAll = 0o002
/** In a sticky folder like `/tmp` a user cannot rename another user's files. */
const sticky = 0o1000

/** The user and group of this process. */
interface Me {
  readonly uid: number
  readonly gid: number
}

const me = (): Me | undefined =>
  process.geteuid === undefined || process.getegid === undefined
    ? undefined
    : { uid: process.geteuid(), gid: process.getegid() }

/** The error for a folder that cannot be made private. */
const refuse = (reason: string) => new EmbeddedFailed({ reason })

/** Whether Sluice created this entry; a folder with other entries is also used by others. */
const isOurs = (entry: string): boolean => entry === "data" || entry.startsWith("sluice.lock")

/** Whether an existing folder with other permissions may be made private. */
type MayClose = (folder: string) => Promise<boolean>

/** Makes a folder private. Returns what other users can still do. */
const close = async (folder: string, { uid }: Me, mayClose: MayClose): Promise<string | undefined> => {
  const link = await fs.lstat(folder)
  if (link.isSymbolicLink() && link.uid !== uid && link.uid !== 0) {
    throw refuse(`${quote(folder)} is a link that another user made (uid ${link.uid}), who may point it elsewhere`)
  }
  const before = await fs.stat(folder)
  if (before.uid !== uid) {
    const owner = `${quote(folder)} belongs to another user (uid ${before.uid}), who can read and change all of it`
    if (uid !== 0) throw refuse(`${owner}: use a folder of your own`)
    return owner
  }
  if ((before.mode & ofOthers) === 0) return undefined
  if (!(await mayClose(folder))) {
    return (before.mode & (writableByGroup | writableByAll)) === 0
      ? undefined
      : `others may write in ${quote(folder)}, and could put another database in place of this one: chmod 700 it`
  }
  await fs.chmod(folder, ofOwner)
  return ((await fs.stat(folder)).mode & ofOthers) === 0
    ? undefined
    : `the file system of ${quote(folder)} keeps no rights: others may read and change all of it`
}

/** What other users can do through the parent folders. */
const above = async (folder: string, { gid, uid }: Me): Promise<string | undefined> => {
  const parent = path.dirname(folder)
  if (parent === folder) return undefined
  const { gid: group, mode, uid: owner } = await fs.stat(parent)
  const isOpen = (mode & sticky) === 0 &&
    ((mode & writableByAll) !== 0 || ((mode & writableByGroup) !== 0 && group !== gid && group !== 0))
  if (isOpen) return `others may write in ${quote(parent)}, and could put another database in place of the one in it`
  // root is expected to work in other users' folders
  if (owner !== uid && owner !== 0 && uid !== 0) {
    return `${
      quote(parent)
    } belongs to another user (uid ${owner}), who could put another database in place of the one in it`
  }
  return await above(parent, { gid, uid })
}

/** Creates a folder if absent. The umask may have removed the owner's permissions as well. */
const make = async (folder: string): Promise<void> => {
  const made = await fs.mkdir(folder, { recursive: true, mode: ofOwner })
  if (made !== undefined) await fs.chmod(folder, ofOwner)
}

const prepare = async (folder: string): Promise<ReadonlyArray<string>> => {
  await make(folder)
  const data = path.join(folder, "data")
  const self = me()
  if (self === undefined) {
    await make(data)
    return []
  }
  const problems = [
    await close(folder, self, async () => (await fs.readdir(folder)).every(isOurs)),
    await above(await fs.realpath(folder), self)
  ]
  await make(data)
  problems.push(await close(data, self, async () => true))
  return problems.filter((problem) => problem !== undefined)
}

/**
 * Creates a database's folder and the one for its data in it, or makes existing ones private. Fails when another user owns
 * them; logs what it cannot repair.
 */
export const makePrivate = Effect.fnUntraced(function*(folder: string) {
  const problems = yield* Effect.tryPromise({
    try: () => prepare(folder),
    catch: (cause) =>
      cause instanceof EmbeddedFailed
        ? cause
        : new EmbeddedFailed({
          reason: `no folder ${quote(folder)}: ${
            Predicate.hasProperty(cause, "code") && cause.code === "EEXIST"
              ? "it is a file"
              : fileProblem(cause, folder) ?? describe(cause)
          }`,
          cause
        })
  })
  for (const problem of problems) yield* Effect.logWarning(`the embedded database is not safe from others: ${problem}`)
})
