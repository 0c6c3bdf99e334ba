/**
 * One system in a process of its own, so that systems do not share a heap or compiled code, and each has its own CPU time.
 */
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { SystemName } from "../systems/index.ts"
import type { Options } from "../systems/system.ts"
import type { Figures } from "./rounds.ts"

/** A request to the child. */
export type Request =
  | { readonly op: "open"; readonly system: SystemName; readonly url: string; readonly options: Options }
  | { readonly op: "fill"; readonly from: number; readonly count: number; readonly contentLength?: number }
  | { readonly op: "drain"; readonly count: number; readonly profiled?: boolean }
  /** The worker is started and left at work; it is looked at; it is stopped. */
  | { readonly op: "start" | "look" | "stop" }
  | { readonly op: "claimNothing"; readonly times: number }
  | { readonly op: "close" }
  /** Counts fibers, handles and listeners: see `alive.ts`. */
  | { readonly op: "alive" }

/** Its answer. */
export interface Answer {
  readonly error?: string
  readonly seconds: number
  readonly cpuMicros: number
  /** Since the process began. */
  readonly cpuTotalMicros: number
  readonly rss: number
  /** Its maximum. */
  readonly peakRss: number
  /** When it began, by the shared clock. */
  readonly began: number
  /** What was measured inside the system, if it was watched. */
  readonly figures: Figures
}

/** A system in its process. */
export interface Child {
  readonly ask: (request: Request) => Promise<Answer>
  readonly end: () => Promise<void>
}

/** Starts a process. */
export const startChild = (): Child => {
  const child = fork(fileURLToPath(new URL("./childMain.ts", import.meta.url)), {
    execArgv: ["--conditions=sluice-source", "--max-old-space-size=4096"],
    // all its output goes to stderr: stdout is for results
    stdio: ["ignore", 2, "inherit", "ipc"]
  })
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  return {
    ask: (request) =>
      new Promise((resolve, reject) => {
        const onExit = () => reject(new Error(`the process of ${JSON.stringify(request)} ended`))
        child.once("exit", onExit)
        child.once("message", (message) => {
          child.off("exit", onExit)
          const answer = message as Answer
          if (answer.error === undefined) resolve(answer)
          else reject(new Error(answer.error))
        })
        child.send(request)
      }),
    end: async () => {
      if (child.connected) child.disconnect()
      await ended
    }
  }
}
