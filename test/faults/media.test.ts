/**
 * A worker is killed right after the commit of a batch, before it has heard of it and could have told anybody. The next
 * one's subscriber attaches the images all the same.
 */
import { CallRecorder, Drain, ServiceCall } from "effect-sluice"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { spawn } from "node:child_process"
import path from "node:path"
import { expect, it } from "vitest"
import { Media } from "../../examples/chatlab/Media.ts"
import { bundle } from "../support/bundle.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"
import { laboratory } from "./laboratory.ts"
import { startProxy } from "./proxy.ts"

const replies = Array.from({ length: 6 }, (_, n): ServiceCall.ServiceCall => ({
  callId: `call-${n}`,
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  context: { simulationId: "knee" },
  outputs: [{
    schema: "schemas.chatlab.standardized_patient.patient-reply",
    version: 1,
    data: { image_requested: true, messages: [{ role: "patient", content: [{ type: "output_text", text: `${n}` }] }] }
  }]
}))

const recorded = Layer.effectDiscard(
  Effect.flatMap(CallRecorder.CallRecorder, (recorder) => recorder.recordMany(replies))
).pipe(
  Layer.provide(CallRecorder.layer)
)

/** Lets a worker run until the answer to its `nth` commit of a batch is on its way, and kills it before it comes. */
const dieAfterCommit = async (url: string, nth: number): Promise<void> => {
  const { hostname, pathname, port, username } = new URL(url)
  const proxy = await startProxy(Number(port))
  const worker = await bundle(path.join(import.meta.dirname, "mediaWorker.ts"))
  const proxied = `postgres://${username}@${hostname}:${proxy.port}${pathname}`
  const child = spawn(process.execPath, [worker, proxied], { stdio: "ignore" })
  // sessions whose transaction has written to the ledger
  const batches = new Set<number>()
  let commits = 0
  proxy.watch(({ backend, side, text }) => {
    if (/insert into \S*persisted_chunk/.test(text)) batches.add(backend)
    if (side === "before" || !/^commit/i.test(text) || !batches.delete(backend) || ++commits !== nth) return "pass"
    child.kill("SIGKILL")
    return "cut"
  })
  const signal = await new Promise((resolve) => child.on("exit", (_, signal) => resolve(signal)))
  await proxy.close()
  expect(signal).toBe("SIGKILL")
}

it.each([1, 2, 3])(
  "killed between commit %i and its announcement: no image is lost",
  (nth) =>
    Effect.runPromise(Effect.scoped(Effect.gen(function*() {
      const url = yield* migratedDatabase()
      // the tables, and what is to be drained, are there before; the subscriber has begun to listen
      yield* Effect.scoped(Layer.build(recorded.pipe(Layer.provideMerge(laboratory(url)))))
      yield* Effect.promise(() => dieAfterCommit(url, nth))

      const sql = Context.get(yield* Layer.build(client(url)), SqlClient.SqlClient)
      const committed = sql<{ messages: number; images: number }>`
      select (select count(*)::int from chatlab.message) as messages, (select count(*)::int from chatlab.media) as images`
      const [found] = yield* committed
      expect(found?.messages).toBe(2 * nth)
      // of the last two nobody has been told
      expect(found?.images).toBeLessThanOrEqual(2 * nth - 2)

      const services = yield* Layer.build(laboratory(url))
      // what the dead one held is free again
      yield* sql`update sluice.chunk_queue set lease_until = now() - interval '1 second' where lease_token is not null`
      yield* sql`update sluice.subscription set lease_until = now() - interval '1 second' where lease_token is not null`
      yield* Context.get(services, Drain.Drain).untilEmpty
      const { count } = Context.get(services, Media)
      yield* untilIt(count, ({ attached, missing }) => attached === replies.length && missing === 0)
      expect(yield* committed).toEqual([{ messages: replies.length, images: replies.length }])
    })))
)
