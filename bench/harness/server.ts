/**
 * The server of all benches: a Postgres from npm, with durable settings.
 */
import { type Cluster, startCluster, type Version } from "../../test/support/cluster.ts"
import { admin } from "./database.ts"

/** No setting trades safety for speed: every commit that must last waits for the disk. */
const settings = {
  fsync: "on",
  synchronous_commit: "on",
  full_page_writes: "on",
  shared_buffers: "1GB",
  max_wal_size: "16GB",
  checkpoint_timeout: "1h",
  max_connections: 300,
  track_io_timing: "off"
}

/** A server for measuring. */
export interface Server extends Cluster {
  /** One line: version and settings. */
  readonly description: string
}

/** Starts a durable server. `extra`: settings that one bench needs. */
export const startServer = async (
  version: Version,
  extra: Readonly<Record<string, string | number>> = {}
): Promise<Server> => {
  const all = { ...settings, ...extra }
  const cluster = await startCluster({ version, durable: true, settings: all })
  const sql = admin(cluster.url())
  const [row] = await sql.query<{ version: string }>("select current_setting('server_version') as version")
  await sql.close()
  const told = Object.entries(all).map(([name, value]) => `${name} ${value}`).join(", ")
  return { ...cluster, description: `Postgres ${row?.version} (${told})` }
}
