/**
 * One Postgres of each version for the whole run, of which tests take databases of their own, and a folder for what is
 * made once for the run.
 */
import * as fs from "node:fs/promises"
import * as os from "node:os"
import path from "node:path"
import type { TestProject } from "vitest/node"
import { type Cluster, startCluster } from "./cluster.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly postgres18: string
    readonly postgres15: string
    readonly runFolder: string
  }
}

/** Starts the servers, and gives vitest the way to stop them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const clusters: ReadonlyArray<Cluster> = await Promise.all([
    startCluster({ version: 18 }),
    startCluster({ version: 15 })
  ])
  for (const { url, version } of clusters) project.provide(version === 18 ? "postgres18" : "postgres15", url())
  const folder = await fs.realpath(await fs.mkdtemp(path.join(os.tmpdir(), "sluice-run-")))
  project.provide("runFolder", folder)
  process.env["SLUICE_TEST_FOLDER"] = folder
  // the command is started hundreds of times: what was compiled once need not be again
  process.env["NODE_COMPILE_CACHE"] ??= path.join(import.meta.dirname, "../../node_modules/.cache/compiled")
  return async () => {
    await fs.rm(folder, { recursive: true, force: true })
    await Promise.all(clusters.map((cluster) => cluster.remove()))
  }
}
