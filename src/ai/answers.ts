/**
 * Listens to the answers of a model. `effect/ai` gives every response to the current span transformer before it decodes
 * anything, so an answer that does not fit is heard as well, with its usage. Transformer and tracer are set only for the
 * effect that asks.
 */
import * as Model from "effect/ai/Model"
import * as Telemetry from "effect/ai/Telemetry"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import type { Run } from "../CallAttempt.ts"
import type { CallFacts } from "../CallFacts.ts"
import { factsOfParts, factsOfSpan, known, type Part, textOfParts } from "./facts.ts"

/** An answer that was heard. */
export interface Heard {
  readonly text?: string
  readonly facts: CallFacts
}

/** Listens for one run of a call. */
export interface Listener {
  /**
   * Listens while an effect asks. Each answer becomes an attempt of the run, however the effect ends. `more` is called at
   * the end and returns further facts of the answers.
   */
  readonly whileAsking: <A, E, R>(ask: Effect.Effect<A, E, R>, more?: () => CallFacts) => Effect.Effect<A, E, R>
  /** The last answer of the latest ask, if one was heard. */
  readonly last: () => Heard | undefined
  /** The facts on the span of the latest request. */
  readonly asked: () => CallFacts
}

/** Whether there was any output, which is paid for. */
const isAnswer = (parts: ReadonlyArray<Part>): boolean =>
  parts.some(({ type }) => type !== "response-metadata" && type !== "error")

/** Begins to listen, and notes on the run which provider and model are asked, if the model's layer names them. */
export const listen = Effect.fnUntraced(function*(run: Run) {
  const ambient = Option.getOrUndefined(yield* Effect.serviceOption(Telemetry.CurrentSpanTransformer))
  const tracer = yield* Effect.tracer
  const clock = yield* Clock.Clock
  const request = known({
    provider: Option.getOrUndefined(yield* Effect.serviceOption(Model.ProviderName)),
    requestModel: Option.getOrUndefined(yield* Effect.serviceOption(Model.ModelName))
  })
  if (Object.keys(request).length > 0) yield* run.facts(request)
  let last: Heard | undefined
  let latest: Tracer.Span | undefined
  const askedBy = (span: Tracer.Span): CallFacts => ({
    ...request,
    ...factsOfSpan(span, clock.currentTimeNanosUnsafe())
  })
  // a provider that refuses an answer does not pass it on: then only the span of the request has its facts
  const watching = Tracer.make({
    span: (options) => {
      const span = tracer.span(options)
      if (options.name.startsWith("LanguageModel.")) latest = span
      return span
    },
    context: tracer.context
  })
  const listener: Listener = {
    last: () => last,
    asked: () => latest === undefined ? request : askedBy(latest),
    whileAsking: (ask, more = () => ({})) =>
      Effect.suspend(() => {
        const answers: Array<Heard> = []
        last = undefined
        latest = undefined
        return ask.pipe(
          Effect.withTracer(watching),
          Effect.provideService(Telemetry.CurrentSpanTransformer, (options) => {
            const { response, span } = options
            const text = textOfParts(response)
            const facts = { ...askedBy(span), ...factsOfParts(response) }
            if (isAnswer(response)) answers.push(text === undefined ? { facts } : { text, facts })
            ambient?.(options)
          }),
          Effect.onExit(() => {
            last = answers.at(-1)
            return Effect.forEach(
              answers,
              (answer) => run.answered({ ...answer, facts: { ...answer.facts, ...more() } }),
              { discard: true }
            )
          })
        )
      })
  }
  return listener
})
