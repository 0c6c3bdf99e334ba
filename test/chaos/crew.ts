/**
 * The worker processes of a storm, each started again when it ends.
 */
import { Shutdown } from "effect-sluice"
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import path from "node:path"
import { bundle } from "../support/bundle.ts"

const hour = 3_600_000

/** Worker 0 has a clock that is an hour ahead, worker 1 one that is an hour behind, the others' are right. */
const wrongBy = (worker: number): number => worker === 0 ? hour : worker === 1 ? -hour : 0

/** The workers. */
export interface Crew {
  /** The process a worker is now. */
  readonly at: (worker: number) => ChildProcess
  /** Lets those that are frozen go on. */
  readonly thaw: Effect.Effect<void>
  readonly close: Effect.Effect<void>
}

/** Whether a process is there. */
export const isAlive = ({ exitCode, pid, signalCode }: ChildProcess): boolean =>
  pid !== undefined && exitCode === null && signalCode === null

/** Starts them. `note` is told what they do that nobody asked for. */
export const startCrew = async (
  { count, seed, url }: { readonly url: string; readonly seed: number; readonly count: number },
  note: (what: string) => void
): Promise<Crew> => {
  const program = await bundle(path.join(import.meta.dirname, "worker.ts"))
  const children: Array<ChildProcess> = []
  let closed = false
  const start = (worker: number) => {
    const args = [program, url, ...[wrongBy(worker), worker, seed].map(String)]
    const child = children[worker] = spawn(process.execPath, args, { stdio: "ignore" })
    child.on("exit", (code, signal) => {
      if (closed) return
      // told twice to stop, it says so by its status
      if (signal === null && code !== 0 && code !== Shutdown.statuses.SIGTERM) note("worker failed by itself")
      start(worker)
    })
  }
  for (let worker = 0; worker < count; worker++) start(worker)
  return {
    at: (worker) => children[worker]!,
    thaw: Effect.sync(() => {
      for (const child of children) child.kill("SIGCONT")
    }),
    close: Effect.promise(async () => {
      closed = true
      await Promise.all(
        children.filter(isAlive).map((child) =>
          new Promise<void>((resolve) => {
            child.on("exit", () => resolve())
            child.kill("SIGCONT")
            child.kill("SIGTERM")
            setTimeout(() => child.kill("SIGKILL"), 8000).unref()
          })
        )
      )
    })
  }
}
