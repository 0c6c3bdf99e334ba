/**
 * The folder of an embedded database is its owner's alone, as Postgres itself demands of one. PGlite makes its files readable
 * and writable for everybody, whatever the umask: what keeps others out is the folder they are in.
 *
 * Windows keeps rights in another way, by the folder above: there nothing is changed.
 */
import * as Effect from "effect/Effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { describe } from "../../internal/describe.ts"
import { quote } from "../../internal/quote.ts"
import { EmbeddedFailed } from "./errors.ts"

const ofOwner = 0o700
const ofOthers = 0o077
const writableByGroup = 0o020
const writableByAll = 0o002
/** In a folder such as `/tmp` nobody may rename what is another's. */
const sticky = 0o1000

/** This process, by its user and group. */
interface Me {
  readonly uid: number
  readonly gid: number
}

const me = (): Me | undefined =>
  process.geteuid === undefined || process.getegid === undefined
    ? undefined
    : { uid: process.geteuid(), gid: process.getegid() }

/** The folder cannot be kept from others. */
const refuse = (reason: string) => new EmbeddedFailed({ reason })

/** What of a folder of ours is known to us; a folder that holds anything else is used by others as well. */
const isOurs = (entry: string): boolean => entry === "data" || entry.startsWith("sluice.lock")

/** Whether a folder that is there with other rights may be closed to others. */
type MayClose = (folder: string) => Promise<boolean>

/** Closes a folder to others. Gives back what others can do all the same. */
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

/** What others can do by the folders above. */
const above = async (folder: string, { gid, uid }: Me): Promise<string | undefined> => {
  const parent = path.dirname(folder)
  if (parent === folder) return undefined
  const { gid: group, mode, uid: owner } = await fs.stat(parent)
  const isOpen = (mode & sticky) === 0 &&
    ((mode & writableByAll) !== 0 || ((mode & writableByGroup) !== 0 && group !== gid && group !== 0))
  if (isOpen) return `others may write in ${quote(parent)}, and could put another database in place of the one in it`
  // root works in others' folders, and means to
  if (owner !== uid && owner !== 0 && uid !== 0) {
    return `${
      quote(parent)
    } belongs to another user (uid ${owner}), who could put another database in place of the one in it`
  }
  return await above(parent, { gid, uid })
}

/** Makes a folder where there is none. The umask may have taken rights from its owner as well. */
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
 * Makes the folder of a database, and the one for its data in it, or closes them to others where they are there. Fails when
 * another user has them; tells the log what it cannot mend.
 */
export const makePrivate = Effect.fnUntraced(function*(folder: string) {
  const problems = yield* Effect.tryPromise({
    try: () => prepare(folder),
    catch: (cause) =>
      cause instanceof EmbeddedFailed
        ? cause
        : new EmbeddedFailed({ reason: `no folder ${quote(folder)}: ${describe(cause)}`, cause })
  })
  for (const problem of problems) yield* Effect.logWarning(`the embedded database is not safe from others: ${problem}`)
})
