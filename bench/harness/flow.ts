/**
 * Records flowing through a small queue: one process records as fast as another persists.
 */
import type { Child } from "./child.ts"

/** Waits. */
export const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** A recording process and a working one, and how many records wait between them. */
export interface Flow {
  readonly recorder: Child
  readonly worker: Child
  readonly backlog: number
  /** The number of the first record; those before it were recorded earlier. */
  readonly from: number
  /** Called repeatedly, also when nothing was recorded meanwhile: whether enough is recorded. */
  readonly enough: (recorded: number) => boolean | Promise<boolean>
}

/** Records for a running worker until it is enough, waits until all are persisted, and returns how many. */
export const pour = async ({ backlog, enough, from, recorder, worker }: Flow): Promise<number> => {
  const portion = Math.max(1, Math.min(1000, backlog >> 1))
  const done = async () => (await worker.ask({ op: "look" })).figures["done"] ?? 0
  const before = await done()
  let recorded = 0
  do {
    if (recorded - (await done() - before) > backlog - portion) {
      await sleep(10)
      continue
    }
    await recorder.ask({ op: "fill", from: from + recorded, count: portion })
    recorded += portion
  } while (!await enough(recorded))
  while (await done() - before < recorded) await sleep(5)
  return recorded
}

/** The same with a worker that is started for it, and stopped afterwards. */
export const flow = async (it: Flow): Promise<number> => {
  await it.worker.ask({ op: "start" })
  const recorded = await pour(it)
  await it.worker.ask({ op: "stop" })
  return recorded
}
