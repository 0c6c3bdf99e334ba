/**
 * BullMQ on Redis and on Postgres. A job is completed after its handler and, on Redis, in another database, so the
 * ledger is what keeps a second run from writing twice.
 */
import type { BackendFactory, IQueueBackend } from "bullmq"
import { Client, Pool } from "pg"
import type { Call } from "../work.ts"
import { checked, countdown, fused, inTransaction, versionOf } from "./peer.ts"
import { redisServer, startRedis } from "./redis.ts"
import type { Running, System } from "./system.ts"

const name = "calls"

interface Backend<B extends IQueueBackend, C> {
  readonly factory: BackendFactory<B, C>
  readonly connection: C
  readonly close: () => Promise<void>
}

interface Handler {
  readonly concurrency: number
  readonly connections: number
  readonly handle: (pool: Pool, call: Call) => Promise<unknown>
}

const bullMq = async <B extends IQueueBackend, C>(
  url: string,
  { close, connection, factory }: Backend<B, C>,
  { concurrency, connections, handle }: Handler
): Promise<Running> => {
  const { withBackend } = await import("bullmq")
  const { Queue, Worker } = withBackend(factory)
  const pool = new Pool({ connectionString: url, max: connections })
  pool.on("error", () => {})
  const queue = new Queue<Call, void, string>(name, {
    connection,
    // finished jobs are not kept, as its documentation advises
    defaultJobOptions: { removeOnComplete: true }
  })
  return checked(url, {
    fill: async (calls) => {
      await queue.addBulk(calls.map((data) => ({ name, data, opts: { jobId: data.callId } })))
    },
    drain: async (count) => {
      const work = countdown(count)
      const worker = new Worker<Call, void, string>(
        name,
        async ({ data }) => void await work.track(1, handle(pool, data)),
        { connection, concurrency }
      )
      worker.on("error", work.fail)
      try {
        await work.reached
      } finally {
        // waits for the completions under way
        await worker.close()
      }
    },
    close: async () => {
      await queue.close()
      await pool.end()
      await close()
    }
  })
}

const onRedis = (handler: Handler): System["open"] => async (url, { inFlight = handler.concurrency }) => {
  const { createRedisBackend } = await import("bullmq")
  const redis = await startRedis()
  const connection = { host: "127.0.0.1", port: redis.port }
  return bullMq(url, { factory: createRedisBackend, connection, close: redis.stop }, {
    ...handler,
    concurrency: inFlight
  })
}

const onPostgres = (handler: Handler): System["open"] => async (url, { inFlight = handler.concurrency }) => {
  const { createPostgresBackend, runMigrations } = await import("bullmq")
  const client = new Client({ connectionString: url })
  await client.connect()
  await runMigrations(client)
  await client.end()
  // connections for its concurrency, as its documentation asks
  const connection = { connectionString: url, max: handler.connections }
  return bullMq(url, { factory: createPostgresBackend, connection, close: async () => {} }, {
    ...handler,
    concurrency: inFlight
  })
}

const skip = () => redisServer() === undefined ? "no redis-server on the PATH" : undefined

const redisAbout = (handler: string) =>
  `BullMQ ${versionOf("bullmq")} on Redis (AOF each second), concurrency 100, ${handler}`

const oneStatement: Handler = {
  concurrency: 100,
  connections: 20,
  handle: (pool, call) => pool.query(fused(call))
}

const transaction: Handler = {
  concurrency: 100,
  connections: 20,
  handle: async (pool, call) => {
    const client = await pool.connect()
    try {
      await inTransaction(client, call)
    } finally {
      client.release()
    }
  }
}

/** One statement a job, on Redis. */
export const bullMqFused: System = {
  about: redisAbout("one statement a job"),
  skip,
  open: onRedis(oneStatement)
}

/** A transaction of two statements a job, on Redis. */
export const bullMqTransaction: System = {
  about: redisAbout("a transaction a job"),
  skip,
  open: onRedis(transaction)
}

/** One statement a job, on Postgres. */
export const bullMqPostgres: System = {
  about: `BullMQ ${versionOf("bullmq")} on Postgres, concurrency 32, one statement a job`,
  open: onPostgres({ ...oneStatement, concurrency: 32 })
}
