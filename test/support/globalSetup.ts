/**
 * One Postgres of each version for the whole run; tests take databases of their own from it.
 */
import type { TestProject } from "vitest/node"
import { type Cluster, startCluster } from "./cluster.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly postgres18: string
    readonly postgres15: string
  }
}

/** Starts the servers, and gives vitest the way to stop them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const clusters: ReadonlyArray<Cluster> = await Promise.all([
    startCluster({ version: 18 }),
    startCluster({ version: 15 })
  ])
  for (const { url, version } of clusters) project.provide(version === 18 ? "postgres18" : "postgres15", url())
  return async () => {
    await Promise.all(clusters.map((cluster) => cluster.remove()))
  }
}
