/**
 * pg-boss in three ways: batches and single jobs in its transactional workers, where what the handler writes and the
 * end of its jobs are one transaction, and batches whose jobs each have a statement and an outcome of their own.
 */
import { Pool } from "pg"
import type { PgBoss, WorkOptions } from "pg-boss"
import type { Payload } from "../work.ts"
import { batched, checked, type Countdown, countdown, fused, versionOf } from "./peer.ts"
import type { System } from "./system.ts"

const queue = "calls"

interface Setting {
  /** Connections that workers hold while they work. */
  readonly held: number
  /** Starts workers. */
  readonly work: (boss: PgBoss, counting: Countdown) => Promise<void>
  readonly close?: () => Promise<void>
}

const open = async (url: string, { close, held, work }: Setting) => {
  const { PgBoss } = await import("pg-boss")
  // some connections beside those held, to fetch and for upkeep; no cron jobs here
  const boss = new PgBoss({ connectionString: url, max: held + 4, schedule: false })
  let counting: Countdown | undefined
  boss.on("error", (error) => counting?.fail(error))
  await boss.start()
  await boss.createQueue(queue)
  return checked(url, {
    fill: async (calls) => {
      // the call's id is a UUID and serves as the job's
      await boss.insert(queue, calls.map(({ callId, payload }) => ({ id: callId, data: payload })))
    },
    drain: async (count) => {
      counting = countdown(count)
      await work(boss, counting)
      try {
        await counting.reached
      } finally {
        // waits for the batches under way
        await boss.offWork(queue)
      }
    },
    close: async () => {
      await boss.stop()
      await close?.()
    }
  })
}

/** The shortest there is. */
const pollingIntervalSeconds = 0.5

type Transactional = WorkOptions & { readonly transactional: true }

const transactional: Transactional = {
  transactional: true,
  pollingIntervalSeconds,
  // the bound costs a round trip in each transaction, and neither the fence nor exactly-once needs it
  transactionTimeoutSeconds: 0
}

const about = `pg-boss ${versionOf("pg-boss")}`

/** Its fastest: a batch a transaction, so that one bad job fails all of them. */
export const pgBossBatch: System = {
  about: `${about}, transactional, batch 500, rows inserted by hand by unnest, jobs deleted`,
  open: (url, { batch = 500, inFlight = 2 }) =>
    open(url, {
      held: inFlight,
      work: async (boss, counting) => {
        await boss.work<Payload, void, Transactional>(
          queue,
          { ...transactional, batchSize: batch, localConcurrency: inFlight, burstWhenBatchFull: true },
          async (jobs, tx) => {
            const { text, values } = batched(jobs.map(({ data, id }) => ({ callId: id, payload: data })))
            await counting.track(jobs.length, tx.executeSql(text, values))
            // deleting them here instead of leaving them to be marked as completed writes a third less WAL
            await boss.deleteJob(queue, jobs, { db: tx })
          }
        )
      }
    })
}

/** A job a transaction. */
export const pgBossSingle: System = {
  about: `${about}, transactional, one job at a time, 20 workers`,
  open: (url, { inFlight = 20 }) =>
    open(url, {
      held: inFlight,
      work: async (boss, counting) => {
        for (let n = 0; n < inFlight; n++) {
          const worker: Promise<string> = boss.work<Payload, void, Transactional>(
            queue,
            transactional,
            async ([job], tx) => {
              if (job === undefined) throw new Error("a handler was given no job")
              const { text, values } = fused({ callId: job.id, payload: job.data })
              await counting.track(1, tx.executeSql(text, values))
              // without it a worker waits for its next poll after each job; bursts are for batches, or seconds late
              boss.notifyWorker(await worker)
            }
          )
          await worker
        }
      }
    })
}

type PerJob = WorkOptions & { readonly perJobResults: true }

/**
 * Its fastest with an outcome for each job: jobs are fetched and completed in batches, and each has a statement of its
 * own between, outside pg-boss's transactions, so that the ledger keeps a second run from writing twice.
 */
export const pgBossPerJob: System = {
  about: `${about}, batch 500, a statement and an outcome a job, 40 connections`,
  open: (url, { batch = 500, inFlight = 40 }) => {
    const pool = new Pool({ connectionString: url, max: inFlight })
    pool.on("error", () => {})
    const options: PerJob = {
      perJobResults: true,
      batchSize: batch,
      pollingIntervalSeconds,
      burstWhenBatchFull: true,
      // two, so that one works while the other fetches and completes
      localConcurrency: 2
    }
    return open(url, {
      held: 0,
      work: async (boss, counting) => {
        await boss.work<Payload, void, PerJob>(queue, options, (jobs) =>
          Promise.all(jobs.map(async ({ data, id }) => {
            await counting.track(1, pool.query(fused({ callId: id, payload: data })))
            return { id, status: "completed" as const }
          })))
      },
      close: () => pool.end()
    })
  }
}
