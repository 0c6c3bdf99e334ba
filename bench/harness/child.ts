/**
 * One system in a process of its own, so that none runs on another's heap and warmth, and its CPU time can be told.
 */
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { SystemName } from "../systems/index.ts"
import type { Options } from "../systems/system.ts"

/** What the child is asked. */
export type Request =
  | { readonly op: "open"; readonly system: SystemName; readonly url: string; readonly options: Options }
  | { readonly op: "fill"; readonly from: number; readonly count: number; readonly contentLength?: number }
  | { readonly op: "drain"; readonly count: number }
  | { readonly op: "close" }

/** What it answers. */
export interface Answer {
  readonly error?: string
  readonly seconds: number
  readonly cpuMicros: number
  readonly rss: number
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
    stdio: ["ignore", "inherit", "inherit", "ipc"]
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
