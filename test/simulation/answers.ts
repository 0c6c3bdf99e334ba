/**
 * What is paid for, simulated: calls that are recorded, run and run again, whose answers do not fit, are rejected, decoded
 * again, asked for again, or erased, while workers drain them and everything fails as in the other simulation.
 */
import {
  CallRecorder,
  DeadLetters,
  DomainEvents,
  DomainObject,
  Drain,
  Erasure,
  Handler,
  HandlerPlugin,
  HandlerRegistry,
  InvalidAnswers,
  Output,
  RejectedAnswers,
  Retention,
  type ServiceCall
} from "effect-sluice"
import type { Run } from "effect-sluice/CallAttempt"
import { ChunkStore } from "effect-sluice/ChunkStore"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import { make as makeQuarantine, Quarantine } from "../../src/drain/Quarantine.ts"
import { calls, dead, failures, ledger, queue, usage } from "../../src/store/memory/rows.ts"
import {
  calm,
  faulty,
  faultyErasure,
  faultyLetters,
  longestStory,
  makeWeather,
  newLife,
  type Weather
} from "./faults.ts"
import { domain } from "./rows.ts"
import { untilDone } from "./simulate.ts"
import { CurrentLife, settings, write } from "./ward.ts"
import { runInWorld } from "./world.ts"

/** A finding of a model. A handler rejects those that are not sound. */
export class Finding extends Output.make("schemas.clinic.ward.finding", {
  schema: Schema.Struct({ id: Schema.String, isSound: Schema.Boolean })
}) {}

/** How one run of a service ends. */
type Ending = "succeeds" | "invalid" | "failed"

/** A call of the plan. */
export interface PlannedAnswer {
  readonly callId: string
  /** Recorded finished, as a list with an element that is bad, or run as often as there are endings. */
  readonly way: "recorded" | "list" | ReadonlyArray<Ending>
  /** Whether its first answer is rejected. */
  readonly isSound: boolean
  /** After how many milliseconds it is erased. */
  readonly erasedAfter: number | undefined
}

/** How often at most a rejected answer is asked for again. */
export const mostRepairs = 2

/** The services that the answers go through. Mutants change them for the worse. */
export interface Services {
  readonly store: ChunkStore["Service"]
  readonly letters: DeadLetters.DeadLetters["Service"]
  readonly retention: Retention.Retention["Service"]
}
export type AnswerMutant = (services: Services, db: MemoryDatabase.MemoryDatabase["Service"]) => Partial<Services>

/** A call as it is at the end. */
export interface EndOfCall {
  readonly planned: PlannedAnswer
  readonly status: string | undefined
  readonly isErased: boolean
  readonly texts: ReadonlyArray<string | null>
  readonly outcomes: ReadonlyArray<string>
  /** The ids that its recorded outputs have. */
  readonly ids: ReadonlyArray<unknown>
  readonly facts: object
  /** The same after all payloads were pruned. */
  readonly factsAfter: object
  /** What its chunks came to. */
  readonly ends: ReadonlyArray<string>
  readonly repairs: number
  /** What recording it once more, at the end, came to. */
  readonly again: string
}

/** What was done, and what is there at the end. */
export interface Answers {
  readonly seed: number
  readonly isCalm: boolean
  readonly happened: ReadonlyMap<string, number>
  readonly ended: boolean
  /** The text of each answer that a service was given. */
  readonly paid: ReadonlyArray<string>
  readonly calls: ReadonlyArray<EndOfCall>
  readonly usage: { readonly inputTokens: number; readonly attempts: number; readonly calls: number }
  readonly attemptTokens: number
  readonly rows: ReadonlyArray<string>
  readonly ledgerRows: ReadonlyArray<string>
}

/** What an answer costs, and a call that is recorded finished. */
export const tokens = { attempt: 10, recorded: 7 }

const below = (limit: number) => Random.nextIntBetween(0, limit, { halfOpen: true })
const endings: ReadonlyArray<ReadonlyArray<Ending>> = [
  ["succeeds"],
  ["succeeds"],
  ["invalid"],
  ["failed"],
  ["invalid", "succeeds"],
  ["failed", "invalid"],
  ["invalid", "failed", "succeeds"]
]

const planOne = Effect.fnUntraced(function*(n: number) {
  const way = yield* below(6)
  const planned: PlannedAnswer = {
    callId: `call-${n}`,
    way: way === 0 ? "recorded" : way === 1 ? "list" : endings[yield* below(endings.length)]!,
    isSound: (yield* below(3)) > 0,
    erasedAfter: (yield* below(4)) === 0 ? yield* below(6000) : undefined
  }
  return planned
})

const spec = ({ callId }: PlannedAnswer): ServiceCall.CallSpec => ({
  callId,
  namespace: "clinic",
  service: "services.clinic.ward.list-findings",
  input: { ask: "What is wrong?" },
  facts: { requestModel: "m", promptName: callId }
})

const outputOf = (data: Schema.Json) => ({ schema: Finding.identity, version: 1, data })

/** The call that is recorded finished. */
const finished = (planned: PlannedAnswer): ServiceCall.ServiceCall => ({
  ...spec(planned),
  facts: { requestModel: "m", promptName: planned.callId, inputTokens: tokens.recorded },
  outputs: planned.way === "list"
    ? Finding.each([{ id: "one", isSound: true }, { id: 2 }, { id: "three", isSound: true }])
    : [outputOf({ id: `${planned.callId}: recorded`, isSound: planned.isSound })]
})

class NoAnswer extends Data.TaggedError("NoAnswer")<{ readonly why: Ending }> {}

/** The model: every answer has an id of its own, and is on the bill. */
const makeModel = (paid: Array<string>) => ({
  answer: Effect.fnUntraced(function*(run: Run, callId: string, isSound: boolean) {
    yield* Effect.sleep(yield* below(1200))
    const data = { id: `${callId}: ${paid.length}`, isSound }
    const text = JSON.stringify(data)
    paid.push(text)
    yield* run.answered({ text, facts: { inputTokens: tokens.attempt } })
    return data
  })
})
type Model = ReturnType<typeof makeModel>

/** Runs the service once, to this end. */
const runTo = (recorder: CallRecorder.CallRecorder["Service"], model: Model, planned: PlannedAnswer, ending: Ending) =>
  recorder.run(
    spec(planned),
    Effect.fnUntraced(function*(run) {
      if (ending === "failed") {
        yield* Effect.sleep(yield* below(500))
        return yield* new NoAnswer({ why: ending })
      }
      let data = yield* model.answer(run, planned.callId, planned.isSound)
      if (data.id.endsWith("3")) {
        yield* run.refused("asked again at once")
        data = yield* model.answer(run, planned.callId, planned.isSound)
      }
      if (ending === "succeeds") return [outputOf(data)]
      yield* run.refused("it does not fit")
      return yield* new NoAnswer({ why: ending })
    })
  ).pipe(Effect.catchIf((error) => error._tag === "NoAnswer" || error._tag === "CallErased", () => Effect.void))

const registry = HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer("clinic", Finding, {
  persist: Effect.fnUntraced(function*({ call: { key }, output }: Handler.HandlerInput<typeof Finding.schema.Type>) {
    if (!output.isSound) return yield* new Handler.HandlerRejected({ reason: `${output.id} is not sound` })
    const rows = yield* write(key, 1)
    return [...rows, DomainObject.make("clinic.Finding", output.id)]
  })
})))

/** Records a call or runs it, in its way; what did not fit may be decoded again. */
const ask = Effect.fnUntraced(function*(planned: PlannedAnswer, model: Model, weather: Weather) {
  const store = yield* ChunkStore
  const life = yield* newLife
  const own = Layer.succeed(ChunkStore, faulty(store, weather, life))
  const context = yield* Layer.build(Layer.provideMerge(Layer.fresh(CallRecorder.layer), Layer.merge(own, registry)))
  const recorder = Context.get(context, CallRecorder.CallRecorder)
  yield* Effect.sleep(yield* below(3000))
  if (typeof planned.way === "string") {
    // some programs do not hear the answer, and deliver it again
    const times = 1 + ((yield* below(4)) === 0 ? 1 : 0)
    for (let time = 0; time < times; time++) {
      const known = Effect.catchTag(recorder.record(finished(planned)), "CallConflict", () => Effect.void)
      yield* untilDone(life, known)
    }
    return
  }
  for (const ending of planned.way) yield* untilDone(life, runTo(recorder, model, planned, ending))
  if ((yield* below(2)) === 0) return
  // the schema was mended
  yield* untilDone(
    life,
    InvalidAnswers.decode(planned.callId).pipe(
      Effect.provide(context),
      Effect.catchIf((error) => error._tag === "NotDecoded", () => Effect.void)
    )
  )
}, Effect.scoped)

const erase = Effect.fnUntraced(function*({ callId, erasedAfter }: PlannedAnswer, weather: Weather) {
  if (erasedAfter === undefined) return
  const life = yield* newLife
  const erasure = faultyErasure(yield* Erasure.Erasure, weather, life)
  yield* Effect.sleep(erasedAfter)
  yield* untilDone(life, erasure.erase(Erasure.Subject.Call({ callId }), { because: "asked for", by: "clerk" }))
})

/** Drains, life after life. */
const worker = Effect.fnUntraced(function*(weather: Weather) {
  const store = yield* ChunkStore
  const once = Effect.flatMap(Drain.Drain, (drain) => drain.cycle).pipe(Effect.ignoreCause, Effect.delay(300))
  while (true) {
    const life = yield* newLife
    const drain = Drain.layer.pipe(
      Layer.provide(registry),
      Layer.provide(Layer.succeed(ChunkStore, faulty(store, weather, life)))
    )
    yield* Effect.forever(once).pipe(
      Effect.raceFirst(Deferred.await(life.end)),
      Effect.provide(drain, { local: true }),
      Effect.provideService(CurrentLife, life),
      Effect.provideService(Quarantine, makeQuarantine())
    )
    yield* Effect.sleep(200)
  }
})

/** Asks again for what was rejected, life after life. */
const repairer = Effect.fnUntraced(function*(model: Model, weather: Weather) {
  const store = yield* ChunkStore
  const letters = yield* DeadLetters.DeadLetters
  while (true) {
    const life = yield* newLife
    const pass = Effect.gen(function*() {
      for (const { key } of yield* letters.list({ reason: "rejected" }, { limit: 100 })) {
        const again = RejectedAnswers.repair(key, { most: mostRepairs }, ({ call }, run) =>
          Effect.gen(function*() {
            const drawn = yield* below(4)
            const data = yield* model.answer(run, call.callId, drawn > 1)
            if (drawn === 0) {
              yield* run.refused("it does not fit")
              return yield* new NoAnswer({ why: "invalid" })
            }
            return outputOf(data)
          }))
        yield* Effect.ignoreCause(again)
      }
    })
    yield* Effect.forever(Effect.delay(pass, 400)).pipe(
      Effect.raceFirst(Deferred.await(life.end)),
      Effect.provideService(ChunkStore, faulty(store, weather, life)),
      Effect.provideService(DeadLetters.DeadLetters, faultyLetters(letters, weather, life)),
      Effect.ignoreCause
    )
    yield* Effect.sleep(200)
  }
})

const noted = (access: MemoryDatabase.Access, callId: string) =>
  access.values(failures).filter(({ key, kind }) => key.callId === callId && kind === "rejected").length

const isQuiet = MemoryDatabase.MemoryDatabase.use((db) =>
  db.use((access) =>
    access.values(queue).length === 0 &&
    access.values(dead).every(({ key, reason }) => reason !== "rejected" || noted(access, key.callId) >= mostRepairs)
  )
)

/** What is in the tables of one call. */
const endOf = (access: MemoryDatabase.Access, planned: PlannedAnswer): Omit<EndOfCall, "again" | "factsAfter"> => {
  const { callId } = planned
  const row = access.get(calls, callId)
  const ofCall = <A extends { readonly key: { readonly callId: string } }>(rows: ReadonlyArray<A>) =>
    rows.filter(({ key }) => key.callId === callId)
  return {
    planned,
    status: row?.status,
    isErased: row?.erasure !== undefined,
    texts: row?.attempts.map(({ text }) => text) ?? [],
    outcomes: row?.attempts.map(({ outcome }) => outcome) ?? [],
    ids: row?.outputs?.map(({ data }) => (data as { readonly id: unknown }).id) ?? [],
    facts: row?.facts ?? {},
    ends: [
      ...ofCall(access.values(queue)).map(({ state }) => `outstanding: ${state}`),
      ...ofCall(access.values(dead)).map(({ reason }) => `dead: ${reason}`),
      ...ofCall(access.values(ledger)).map(() => "persisted")
    ],
    repairs: noted(access, callId)
  }
}

const sum = <A>(list: ReadonlyArray<A>, of: (one: A) => number | undefined) =>
  list.reduce((total, one) => total + (of(one) ?? 0), 0)

const run = Effect.fnUntraced(function*(seed: number, weather: Weather, mutant: AnswerMutant) {
  const isCalm = weather.percent === 0
  const db = yield* MemoryDatabase.MemoryDatabase
  const services = {
    store: yield* ChunkStore,
    letters: yield* DeadLetters.DeadLetters,
    retention: yield* Retention.Retention
  }
  const { letters, retention, store } = { ...services, ...mutant(services, db) }
  return yield* Effect.gen(function*() {
    const plan = yield* Effect.forEach(Array.from({ length: 2 + (yield* below(5)) }, (_, n) => n), planOne)
    const paid: Array<string> = []
    const model = makeModel(paid)
    const workers = yield* Effect.forEach(
      [worker(weather), worker(weather), repairer(model, weather), repairer(model, weather)],
      (program) => Effect.forkScoped(program)
    )
    const others = yield* Effect.forEach(
      plan.flatMap((planned) => [ask(planned, model, weather), erase(planned, weather)]),
      (program) => Effect.forkScoped(program)
    )
    const ended = yield* Effect.gen(function*() {
      yield* Fiber.joinAll(others)
      calm(weather)
      // what is in the hands of the frozen and the dead ends with its lease
      yield* Effect.sleep("15 seconds")
      while (!(yield* isQuiet)) yield* Effect.sleep("1 second")
      return true
    }).pipe(Effect.timeoutOrElse({ duration: longestStory, orElse: () => Effect.succeed(false) }))
    yield* Fiber.interruptAll(workers)
    const found = yield* db.use((access) => plan.map((planned) => endOf(access, planned)))
    const totals = yield* db.use((access) => {
      const entries = access.values(usage)
      return {
        usage: {
          inputTokens: sum(entries, (entry) => entry.inputTokens),
          attempts: sum(entries, (entry) => entry.attempts),
          calls: sum(entries, (entry) => entry.calls)
        },
        attemptTokens: sum(access.values(calls).flatMap((row) => row.attempts), ({ facts }) => facts.inputTokens),
        rows: access.values(domain).map(({ callId, part }) => `${callId} ${part}`).sort(),
        ledgerRows: access.values(ledger).map(({ key }) => `${key.callId} ${key.part}`).sort()
      }
    })
    const recorder = yield* CallRecorder.CallRecorder
    const again = yield* Effect.forEach(plan, (planned) =>
      Effect.result(recorder.record(finished(planned))).pipe(
        Effect.map((result) => result._tag === "Success" ? result.success : result.failure._tag)
      ))
    yield* retention.prune({ payloads: Duration.zero })
    return yield* db.use((access): Answers => ({
      seed,
      isCalm,
      happened: weather.happened,
      ended,
      paid,
      calls: found.map((end, index) => ({
        ...end,
        again: again[index]!,
        factsAfter: access.get(calls, end.planned.callId)?.facts ?? {}
      })),
      ...totals
    }))
  }).pipe(
    Effect.provide(CallRecorder.layer, { local: true }),
    Effect.provideService(ChunkStore, store),
    Effect.provideService(DeadLetters.DeadLetters, letters)
  )
}, Effect.scoped)

/** Runs the simulation of a seed. The same seed gives the same end. */
export const simulateAnswers = (seed: number, mutant: AnswerMutant = () => ({})): Answers => {
  const isCalm = seed % 4 === 0
  const weather = makeWeather(isCalm)
  const story = run(seed, weather, mutant).pipe(
    Effect.provide(
      MemoryStore.layerStorage.pipe(
        Layer.provideMerge([DomainEvents.layer, MemoryDatabase.layer]),
        Layer.provideMerge(settings)
      ),
      { local: true }
    ),
    Random.withSeed(seed),
    Effect.provide(Logger.layer([]), { local: true }),
    Effect.withTracerEnabled(false),
    Effect.orDie
  )
  return runInWorld(seed, story)
}
