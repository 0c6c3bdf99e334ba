/**
 * The process of one system: does as it is asked, one thing after another.
 */
import { systems } from "../systems/index.ts"
import type { Running } from "../systems/system.ts"
import { calls } from "../work.ts"
import type { Request } from "./child.ts"

let running: Running | undefined

const connected = (): Running => {
  if (running === undefined) throw new Error("nothing is open")
  return running
}

const perFill = 1000

const serve = async (request: Request): Promise<void> => {
  switch (request.op) {
    case "open":
      running = await systems[request.system].open(request.url, request.options)
      return
    case "fill":
      for (let done = 0; done < request.count; done += perFill) {
        const count = Math.min(perFill, request.count - done)
        await connected().fill(calls(request.from + done, count, request.contentLength))
      }
      return
    case "drain":
      return connected().drain(request.count)
    case "close":
      await connected().close()
      running = undefined
  }
}

process.on("message", (request: Request) => {
  const began = performance.now()
  const cpu = process.cpuUsage()
  const answer = (error?: string) => {
    const { system, user } = process.cpuUsage(cpu)
    process.send?.({
      ...(error === undefined ? {} : { error }),
      seconds: (performance.now() - began) / 1000,
      cpuMicros: user + system,
      rss: process.memoryUsage.rss()
    })
  }
  serve(request).then(
    () => answer(),
    (error: unknown) => answer(error instanceof Error ? error.stack ?? error.message : String(error))
  )
})
process.on("disconnect", () => process.exit(0))
