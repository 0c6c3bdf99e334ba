/**
 * The process of one system: carries out requests, one after another.
 */
import { systems } from "../systems/index.ts"
import type { Running, Worker } from "../systems/system.ts"
import { calls } from "../work.ts"
import { alive } from "./alive.ts"
import type { Request } from "./child.ts"
import { sharedNow } from "./clock.ts"
import { profiled } from "./profile.ts"
import type { Figures } from "./rounds.ts"

let running: Running | undefined

const connected = (): Running => {
  if (running === undefined) throw new Error("nothing is open")
  return running
}

const worker = (): Worker => {
  const { worker } = connected()
  if (worker === undefined) throw new Error("this system has no worker to be watched")
  return worker
}

/** How many calls are recorded at once: fewer if they are large. */
const perFill = ({ contentLength = 1000 }: { readonly contentLength?: number }) =>
  Math.max(1, Math.min(1000, Math.floor(8_000_000 / contentLength)))

const serve = async (request: Request): Promise<Figures> => {
  switch (request.op) {
    case "open":
      running = await systems[request.system].open(request.url, request.options)
      return {}
    case "fill":
      for (let done = 0; done < request.count; done += perFill(request)) {
        const count = Math.min(perFill(request), request.count - done)
        await connected().fill(calls(request.from + done, count, request.contentLength))
      }
      return {}
    case "drain":
      if (request.profiled === true) return profiled(() => connected().drain(request.count))
      await connected().drain(request.count)
      return connected().worker?.figures() ?? {}
    case "start":
      await worker().start()
      return {}
    case "look":
      return worker().figures()
    case "stop":
      await worker().stop()
      return worker().figures()
    case "claimNothing":
      return await worker().claimNothing?.(request.times) ?? {}
    case "alive":
      return alive()
    case "close":
      await connected().close()
      running = undefined
      return {}
  }
}

process.on("message", (request: Request) => {
  const began = sharedNow()
  const cpu = process.cpuUsage()
  const answer = (told: { readonly error: string } | { readonly figures: Figures }) => {
    const now = process.cpuUsage()
    process.send?.({
      ...told,
      seconds: (sharedNow() - began) / 1000,
      cpuMicros: now.user + now.system - cpu.user - cpu.system,
      cpuTotalMicros: now.user + now.system,
      rss: process.memoryUsage.rss(),
      peakRss: process.resourceUsage().maxRSS * 1024,
      began
    })
  }
  serve(request).then(
    (figures) => answer({ figures }),
    (error: unknown) => answer({ error: error instanceof Error ? error.stack ?? error.message : String(error) })
  )
})
process.on("disconnect", () => process.exit(0))
