/**
 * graphile-worker with all its batching. A job is completed after its handler and outside its transaction, so the ledger
 * is what keeps a second run from writing twice.
 */
import { type ClientBase, Pool } from "pg"
import type { Call } from "../work.ts"
import { checked, countdown, fused, inTransaction, versionOf } from "./peer.ts"
import type { System } from "./system.ts"

const task = "persist"

// more at once share a flush of the WAL; beyond this many it makes no difference any more
const concurrency = 50

const graphile =
  (handle: (client: ClientBase, call: Call) => Promise<unknown>): System["open"] =>
  async (url, { batch = 500, inFlight = concurrency }) => {
    // as its own performance test has it: a line of log for each job costs
    process.env["NO_LOG_SUCCESS"] = "1"
    const { Logger, makeWorkerUtils, run } = await import("graphile-worker")
    // a connection for each handler, and some to fetch, complete and listen
    const pool = new Pool({ connectionString: url, max: inFlight + 3 })
    // it asks for both: a connection that breaks is told by the query under way
    pool.on("error", () => {})
    pool.on("connect", (client) => client.on("error", () => {}))
    const logger = new Logger(() => () => {})
    const utils = await makeWorkerUtils({ pgPool: pool, logger })
    await utils.migrate()
    return checked(url, {
      fill: async (calls) => {
        await utils.addJobs(calls.map((payload) => ({ identifier: task, payload })))
      },
      drain: async (count) => {
        const work = countdown(count)
        const runner = await run({
          pgPool: pool,
          logger,
          noHandleSignals: true,
          parsedCronItems: [],
          preset: {
            worker: {
              concurrentJobs: inFlight,
              // its documentation's fastest: jobs are fetched 500 at once and completed together, without a delay
              localQueue: { size: batch },
              completeJobBatchDelay: 0,
              failJobBatchDelay: 0
            }
          },
          taskList: {
            [task]: (payload, { withPgClient }) =>
              work.track(1, withPgClient(async (client) => void await handle(client, payload as Call)))
          }
        })
        runner.promise.catch(work.fail)
        try {
          await work.reached
        } finally {
          // completes what its handlers have done
          await runner.stop()
        }
      },
      close: async () => {
        await utils.release()
        await pool.end()
      }
    })
  }

const about = (handler: string) =>
  `graphile-worker ${versionOf("graphile-worker")}, local queue 500, batched completion, ` +
  `${concurrency} at once, ${handler}`

/** One statement a job. */
export const graphileFused: System = {
  about: about("one statement a job"),
  open: graphile((client, call) => client.query(fused(call)))
}

/** A transaction of two statements a job. */
export const graphileTransaction: System = {
  about: about("a transaction a job"),
  open: graphile(inTransaction)
}
