/**
 * The files of an empty embedded database, made once in a run. To make them takes seconds of work; to load them, a fifth of
 * that. Only for databases in memory: those in a folder are made as a user's are.
 */
import type { PGlite } from "@electric-sql/pglite"
import * as fs from "node:fs"
import path from "node:path"
import { inject } from "vitest"

/** Test files that share a process share the class as well. */
const changed = new WeakSet<typeof PGlite>()

/** From here on the databases in memory that this class creates begin with the run's image. */
export const useImage = (pglite: typeof PGlite): void => {
  if (changed.has(pglite)) return
  changed.add(pglite)
  const image = path.join(inject("runFolder"), "pglite.tar")
  const create = pglite.create.bind(pglite)

  const inMemory = async (): Promise<PGlite> => {
    if (fs.existsSync(image)) return create({ loadDataDir: await fs.openAsBlob(image) })
    const first = await create()
    const part = `${image}.${process.pid}`
    const files = await first.dumpDataDir("none")
    fs.writeFileSync(part, new Uint8Array(await files.arrayBuffer()))
    // whole at once: other processes may be looking
    fs.renameSync(part, image)
    return first
  }

  Object.assign(pglite, {
    create: (...options: Parameters<typeof create>) => options.length === 0 ? inMemory() : create(...options)
  })
}
