/**
 * Ports for servers that a test starts, and starts again. The system gives its own free ports to outgoing connections as
 * well, so one that was free is taken a moment later. These are below the system's range, and each worker of a run has its
 * own.
 */
import { createServer } from "node:net"

const first = 10_000
const each = 1_000
/** The number of this worker of the run; 0 outside of workers. */
const worker = Number(process.env["VITEST_POOL_ID"] ?? 0) % 20

// another run beside this one has other processes, and begins elsewhere
let next = process.pid

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    // on all addresses: nobody has it on any of them
    server.listen(port, () => server.close(() => resolve(true)))
  })

/** A port that nobody listens on, and that nobody else of this run is given. */
export const freePort = async (): Promise<number> => {
  for (let tries = 0; tries < each; tries++) {
    const port = first + worker * each + (next++ % each)
    if (await isFree(port)) return port
  }
  throw new Error(`no port is free from ${first + worker * each} on`)
}
