/**
 * Runs the drains of one process: once, until nothing is left, or until the process is told to stop.
 */
import * as Context from "effect/Context"
import type * as Cron from "effect/Cron"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Drain from "../Drain.ts"
import { cycleWithin } from "../drain/cycles.ts"
import * as DrainWorker from "../DrainWorker.ts"
import { Inspector } from "../Inspector.ts"
import * as Settings from "../Settings.ts"
import * as print from "./print.ts"
import { untilStopped } from "./stopping.ts"
import * as Terminal from "./Terminal.ts"

/** A drain whose layer lives as long as the command. */
export type OneDrain = Drain.Drain["Service"]

/** Makes `count` drains, each a separate worker. */
export const make = (count: number, namespace: Option.Option<string>) => {
  const layer = Option.isSome(namespace) ? Drain.layerWith({ namespace: namespace.value }) : Drain.layer
  return Effect.forEach(
    Array.from({ length: count }),
    () => Effect.map(Layer.build(Layer.fresh(layer)), Context.get(Drain.Drain))
  )
}

/** How many connections the drains use: for each its batches, its claim and its beat, plus two for status queries. */
export const connections = (count: number, { inFlight }: Settings.Values): number => count * (inFlight + 2) + 2

/** Reports progress and the time left: a bar on a terminal, or else a line every 1000 chunks. */
const progress = (before: number) => {
  const started = performance.now()
  let told = 0
  return (done: number) =>
    Effect.suspend(() => {
      const rate = done / Math.max(0.001, (performance.now() - started) / 1000)
      // more chunks may have been recorded meanwhile
      const total = Math.max(before, done)
      const left = print.ago(Math.ceil((total - done) / rate) * 1000)
      const text = `${done} of ${total} chunks, ${Math.round(rate)}/s, ${left} left`
      const isNews = Math.floor(done / 1000) > Math.floor(told / 1000)
      told = done
      if (Terminal.isWatched()) return Terminal.bar(done / Math.max(1, total), text)
      return isNews ? Terminal.say(text) : Effect.void
    })
}

/**
 * Drains until nothing is due, for one batch per drain (`once`), or until the time is over, when running chunks are given
 * back. When told to stop, the drains claim no more, let running chunks finish within the grace period, and call `partly`
 * with the report so far.
 */
export const toTheEnd = Effect.fnUntraced(
  function*(drains: ReadonlyArray<OneDrain>, { left, namespace, once, partly }: {
    readonly once: boolean
    /** How much time is left; undefined if there is no limit. */
    readonly left: (() => Duration.Duration) | undefined
    readonly namespace: Option.Option<string>
    readonly partly: (report: Drain.Report) => Effect.Effect<void>
  }) {
    const { gracePeriod } = yield* Settings.Settings
    const tell = once
      ? () => Effect.void
      : progress(yield* Inspector.use((inspector) => inspector.due(Option.getOrUndefined(namespace))))
    let total = Drain.emptyReport
    let stopping = false
    const cycle = (drain: OneDrain) =>
      left === undefined
        ? Effect.map(drain.cycle, (report) => ({ report, ends: report.claimed === 0 }))
        : cycleWithin(drain.claim(), left())
    const loop = Effect.fnUntraced(function*(drain: OneDrain) {
      while (!stopping && (left === undefined || Duration.isPositive(left()))) {
        const { ends, report } = yield* cycle(drain)
        total = Drain.addReports(total, report)
        if (once || ends) return
        yield* tell(total.claimed)
      }
    })
    const all = Effect.forEach(drains, loop, { concurrency: "unbounded", discard: true })
    // Several drains may each skip chunks that another has locked at that moment. A single drain at the end skips none.
    const [first] = drains
    const running = yield* Effect.forkScoped(
      first === undefined || once || drains.length === 1 ? all : Effect.andThen(all, loop(first))
    )
    const stop = Effect.gen(function*() {
      stopping = true
      yield* Effect.timeoutOption(Fiber.await(running), gracePeriod)
      yield* Terminal.clear
      yield* partly(total)
    })
    yield* Effect.onInterrupt(Fiber.join(running), () => stop)
    yield* Terminal.clear
    return total
  },
  Effect.scoped
)

/** Drains until it is told to stop, and then calls `wholly` with the report. */
export const forever = Effect.fnUntraced(function*(
  drains: ReadonlyArray<OneDrain>,
  options: DrainWorker.Options<Cron.CronParseError>,
  wholly: (report: Drain.Report) => Effect.Effect<void>
) {
  const workers = yield* Effect.forEach(drains, (drain) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const worker = yield* Layer.build(Layer.fresh(DrainWorker.layer(options))).pipe(
        Effect.provideService(Drain.Drain, drain),
        Scope.provide(scope)
      )
      return { scope, report: Context.get(worker, DrainWorker.DrainWorker).report }
    }))
  // concurrently: in sequence, each would take its own grace period
  const stop = Effect.forEach(workers, ({ scope }) => Scope.close(scope, Exit.void), {
    concurrency: "unbounded",
    discard: true
  })
  const end = Effect.gen(function*() {
    yield* stop
    const reports = yield* Effect.forEach(workers, ({ report }) => report)
    yield* wholly(reports.reduce(Drain.addReports, Drain.emptyReport))
  })
  yield* Terminal.say("draining; Ctrl-C or SIGTERM stops")
  return yield* untilStopped(Effect.onInterrupt(Effect.never, () => end))
})
