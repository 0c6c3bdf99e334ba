/**
 * Watches the process while a user's file is loaded. The file may hang, loop on the only thread, listen for signals that the
 * command handles, or end the process. In each case the command names the file.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import path from "node:path"
import { pathToFileURL } from "node:url"
import { Worker } from "node:worker_threads"
import { longestInterrupt } from "../internal/boundedInterrupt.ts"
import { describeLoadError } from "../internal/loadError.ts"
import { timerMillis } from "../internal/timer.ts"
import { Failed, type Failure } from "./Failed.ts"
import * as print from "./print.ts"
import * as sources from "./sources.ts"
import * as Terminal from "./Terminal.ts"
import * as wantsJson from "./wantsJson.ts"

let file: string | undefined

/** The file that is being loaded now. */
export const current = (): string | undefined => file

/**
 * Runs in its own thread: a file that loops blocks the main thread, and its timers with it. From another thread, only
 * SIGKILL ends a blocked process.
 */
const guard = `
const { parentPort } = require("node:worker_threads")
const { writeSync } = require("node:fs")
let timer
parentPort.on("message", (alarm) => {
  clearTimeout(timer)
  if (alarm === null) return
  timer = setTimeout(() => {
    for (const [descriptor, text] of alarm.texts) try { writeSync(descriptor, text + "\\n") } catch {}
    process.kill(process.pid, "SIGKILL")
  }, alarm.millis)
})
`

interface Alarm {
  readonly millis: number
  readonly texts: ReadonlyArray<readonly [descriptor: 1 | 2, text: string]>
}

let worker: Worker | undefined

const set = (alarm: Alarm | null): void => {
  if (worker === undefined) {
    worker = new Worker(guard, { eval: true })
    worker.unref()
    // without the thread, a file that loops is not named; everything else works
    worker.on("error", () => {})
  }
  worker.postMessage(alarm, [])
}

/** Ends the watching thread once everything is loaded. */
export const done: Effect.Effect<void> = Effect.promise(async () => {
  await worker?.terminate()
  worker = undefined
})

const signals = ["SIGINT", "SIGTERM"] as const
type Listeners = ReadonlyMap<typeof signals[number], ReadonlyArray<NodeJS.SignalsListener>>
const listeners = (): Listeners => new Map(signals.map((signal) => [signal, process.listeners(signal)]))

/** Restores the signal listeners: the command itself ends what runs. Returns whether the file had changed them. */
const restore = (before: Listeners): boolean => {
  let changed = false
  for (const signal of signals) {
    const [was = [], is] = [before.get(signal), process.listeners(signal)]
    for (const listener of is) {
      if (was.includes(listener)) continue
      process.off(signal, listener)
      changed = true
    }
    for (const listener of was) if (!is.includes(listener)) process.on(signal, listener)
  }
  return changed
}

/** How long after the time limit the thread acts: only if neither the timeout nor its interruption took effect. */
const later = Duration.sum(longestInterrupt, Duration.seconds(2))

/** Loads a file under watch. `limit` is the time limit of `load`; the thread acts some seconds after it. */
export const watched = (limit: Duration.Duration) => <A, E, R>(name: string, load: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      sources.prepare()
      file = path.relative(".", name)
      const sentence = `${file} keeps the process busy: it was not loaded within ${Duration.format(limit)}`
      const error: typeof Failure.Type = { error: sentence }
      set({
        millis: timerMillis(Duration.sum(limit, later)),
        texts: [[2, print.visible(sentence)], ...wantsJson.isWanted() ? [[1, print.jsonText(error)] as const] : []]
      })
      return listeners()
    }),
    () => load,
    (before) =>
      Effect.suspend(() => {
        const told = `${file} listens for SIGINT or SIGTERM: that is not heeded, sluice itself ends what runs`
        file = undefined
        set(null)
        return restore(before) ? Terminal.say(told) : Effect.void
      })
  )

/** Loads a user's file under watch. Its errors call the file by the given name. */
export const load = (file: string, name: string, limit: Duration.Duration): Effect.Effect<unknown, Failed> =>
  watched(limit)(
    file,
    Effect.tryPromise({
      try: (): Promise<unknown> => import(pathToFileURL(file).href),
      catch: (cause) => ({ cause })
    }).pipe(
      Effect.catch(({ cause }) =>
        Effect.flatMap(
          Effect.promise(() => describeLoadError(file, cause)),
          (why) => new Failed({ reason: `${name} does not load: ${why}` })
        )
      ),
      Effect.timeoutOrElse({
        duration: limit,
        orElse: () =>
          new Failed({ reason: `${name} is not loaded within ${Duration.format(limit)}: does it wait for something?` })
      })
    )
  )

/** What a loaded file exports as its default. CommonJS that a compiler made of `export default` has it a step further in. */
export const defaultOf = (module: unknown): unknown => {
  const found = Predicate.hasProperty(module, "default") ? module.default : undefined
  return Predicate.hasProperty(found, "__esModule") && Predicate.hasProperty(found, "default") ? found.default : found
}
