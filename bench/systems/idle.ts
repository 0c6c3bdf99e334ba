/**
 * Workers as their documentation recommends them, ten at once, to be watched while there is nothing to do. Each record
 * is one statement of the handler.
 */
import { Pool } from "pg"
import type { Call, Payload } from "../work.ts"
import { fused, versionOf } from "./peer.ts"
import { perRecord } from "./sluice.ts"
import type { Running, System, Worker } from "./system.ts"
import { type Tally, tally } from "./tally.ts"
import { watched } from "./watched.ts"

const concurrency = 10

/** A system that works from its start to its stop; to drain is to start it, wait, and stop it. */
const asRunning = (
  count: Tally,
  system: Pick<Running, "fill" | "close"> & Pick<Worker, "start" | "stop">
): Running => ({
  fill: system.fill,
  drain: async (records) => {
    const reached = count.more(records)
    await system.start()
    await reached
    await system.stop()
  },
  close: system.close,
  worker: { start: system.start, stop: system.stop, figures: count.figures }
})

const persisting = (url: string, count: Tally) => {
  const pool = new Pool({ connectionString: url, max: concurrency })
  pool.on("error", () => {})
  return {
    pool,
    persist: async (call: Call) => {
      await pool.query(fused(call))
      count.done(1)
    }
  }
}

const pgBoss = (notify: boolean): System["open"] => async (url) => {
  const { PgBoss } = await import("pg-boss")
  const queue = "calls"
  const boss = new PgBoss({ connectionString: url, useListenNotify: notify })
  boss.on("error", () => {})
  await boss.start()
  await boss.createQueue(queue, { notify })
  const count = tally()
  const { persist, pool } = persisting(url, count)
  return asRunning(count, {
    fill: async (calls) => {
      for (const { callId, payload } of calls) await boss.send(queue, payload, { id: callId })
    },
    start: async () => {
      await boss.work<Payload>(queue, { localConcurrency: concurrency }, async ([job]) => {
        if (job !== undefined) await persist({ callId: job.id, payload: job.data })
      })
    },
    stop: () => boss.offWork(queue),
    close: async () => {
      await boss.stop()
      await pool.end()
    }
  })
}

const graphileWorker: System["open"] = async (url) => {
  process.env["NO_LOG_SUCCESS"] = "1"
  const { Logger, makeWorkerUtils, run } = await import("graphile-worker")
  const task = "persist"
  const logger = new Logger(() => () => {})
  const utils = await makeWorkerUtils({ connectionString: url, logger })
  await utils.migrate()
  const count = tally()
  const { persist, pool } = persisting(url, count)
  let runner: Awaited<ReturnType<typeof run>> | undefined
  return asRunning(count, {
    fill: async (calls) => {
      for (const payload of calls) await utils.addJob(task, payload)
    },
    start: async () => {
      runner = await run({
        connectionString: url,
        concurrency,
        logger,
        noHandleSignals: true,
        parsedCronItems: [],
        taskList: { [task]: (payload) => persist(payload as Call) }
      })
    },
    stop: async () => {
      await runner?.stop()
      runner = undefined
    },
    close: async () => {
      await utils.release()
      await pool.end()
    }
  })
}

/** Sluice with default settings. */
export const sluiceIdle: System = {
  about: "default settings: woken by NOTIFY, polls each 5 s, heartbeat each 10 s",
  open: watched({ handlers: perRecord, byDefault: true })
}

/** pg-boss, polling. */
export const pgBossIdle: System = {
  about: `pg-boss ${versionOf("pg-boss")}, 10 workers, polls each 2 s`,
  open: pgBoss(false)
}

/** pg-boss, woken by NOTIFY. */
export const pgBossIdleNotify: System = {
  about: `pg-boss ${versionOf("pg-boss")}, 10 workers, woken by NOTIFY, polls each 30 s`,
  open: pgBoss(true)
}

/** graphile-worker. */
export const graphileIdle: System = {
  about: `graphile-worker ${versionOf("graphile-worker")}, 10 at once, woken by NOTIFY, polls each 2 s`,
  open: graphileWorker
}
