/**
 * Listens to the answers of a model. `effect/ai` gives every response to the current span transformer before it decodes the
 * object in it, so an answer that does not fit is heard as well, with its usage. A response that the provider's layer or
 * `effect/ai` refuses before that is not heard: its facts are read from the request's span, its text from the error.
 * Transformer and tracer are set only for the effect that asks.
 */
import * as Model from "effect/ai/Model"
import * as Telemetry from "effect/ai/Telemetry"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import type { Run } from "../CallAttempt.ts"
import type { CallFacts } from "../CallFacts.ts"
import { factsOfParts, factsOfSpan, known, type Part, textOfParts } from "./facts.ts"
import type { Cost } from "./options.ts"
import { unfitOf } from "./unfit.ts"

/** An answer that was heard. */
export interface Heard {
  readonly text?: string
  readonly facts: CallFacts
}

/** An answer, and the request's span if the answer came with one. */
interface Given {
  readonly answer: Heard
  readonly span?: Tracer.Span
}

/** Listens for one run of a call. */
export interface Listener {
  /**
   * Listens while an effect asks. Each answer becomes an attempt of the run, however the effect ends. An answer on which its
   * request failed is refused, also if the effect asks several questions, or asks again by itself. `more` is called at the
   * end and returns further facts of the answers.
   */
  readonly whileAsking: <A, E, R>(ask: Effect.Effect<A, E, R>, more?: () => CallFacts) => Effect.Effect<A, E, R>
  /** The last answer of the latest ask, if there was one. */
  readonly last: () => Heard | undefined
}

/** Whether there was any output, which is paid for. */
const isAnswer = (parts: ReadonlyArray<Part>): boolean =>
  parts.some(({ type }) => type !== "response-metadata" && type !== "error")

/**
 * The application's own transformer and tracer, by those of a listener. A call within the effect of another call uses them
 * instead of the outer listener's, so that each answer counts once.
 */
const transformers = new WeakMap<Telemetry.SpanTransformer, Telemetry.SpanTransformer | undefined>()
const tracers = new WeakMap<Tracer.Tracer, Tracer.Tracer>()

/** Whether the facts on a request's span show that there was an answer. */
const toldOfAnswer = ({ finishReason, inputTokens, outputTokens, responseId }: CallFacts): boolean =>
  (finishReason ?? inputTokens ?? outputTokens ?? responseId) !== undefined

/** The error with which a request has failed, if it has. */
const errorOf = (span: Tracer.Span | undefined): unknown =>
  span?.status._tag === "Ended" && Exit.isFailure(span.status.exit)
    ? Option.getOrUndefined(Cause.findErrorOption(span.status.exit.cause))
    : undefined

/** The facts of an answer, with what it costs. If the function throws, the cost is unknown: the answer must not be lost. */
const priced = (facts: CallFacts, cost: Cost | undefined): CallFacts => {
  try {
    const found = cost?.(facts)
    return found === undefined ? facts : { ...facts, cost: { ...found, micros: Math.round(found.micros) } }
  } catch {
    return facts
  }
}

/** Begins to listen, and notes on the run which provider and model are asked, if the model's layer names them. */
export const listen = Effect.fnUntraced(function*(run: Run, cost: Cost | undefined) {
  const surrounding = Option.getOrUndefined(yield* Effect.serviceOption(Telemetry.CurrentSpanTransformer))
  const isNested = surrounding !== undefined && transformers.has(surrounding)
  const ambient = isNested ? transformers.get(surrounding) : surrounding
  const given = yield* Effect.tracer
  const tracer = tracers.get(given) ?? given
  const clock = yield* Clock.Clock
  const request = known({
    provider: Option.getOrUndefined(yield* Effect.serviceOption(Model.ProviderName)),
    requestModel: Option.getOrUndefined(yield* Effect.serviceOption(Model.ModelName))
  })
  if (Object.keys(request).length > 0) yield* run.facts(request)
  const askedBy = (span: Tracer.Span): CallFacts => ({
    ...request,
    ...factsOfSpan(span, clock.currentTimeNanosUnsafe())
  })
  let last: Heard | undefined
  const note = ({ answer, span }: Given, more: CallFacts) => {
    const unfit = unfitOf(errorOf(span))
    const answered = run.answered({ ...answer, facts: priced({ ...answer.facts, ...more }, cost) })
    return unfit === undefined ? answered : Effect.andThen(answered, run.refused(unfit.reason))
  }
  const whileAsking: Listener["whileAsking"] = (ask, more = () => ({})) =>
    Effect.suspend(() => {
      const answers: Array<Given> = []
      /** The span of the latest request, and of the latest one whose answer was heard. */
      let asked: Tracer.Span | undefined
      let heard: Tracer.Span | undefined
      const watching = Tracer.make({
        span: (options) => {
          const span = tracer.span(options)
          if (options.name.startsWith("LanguageModel.")) asked = span
          return span
        },
        context: tracer.context
      })
      tracers.set(watching, tracer)
      const hearing: Telemetry.SpanTransformer = (options) => {
        const { response, span } = options
        if (isAnswer(response)) {
          const text = textOfParts(response)
          const facts = { ...askedBy(span), ...factsOfParts(response) }
          answers.push({ answer: text === undefined ? { facts } : { text, facts }, span })
          heard = span
        }
        ambient?.(options)
      }
      transformers.set(hearing, ambient)
      /** The answer to the latest request, if it was refused before it could be heard. */
      const unheard = (cause: Cause.Cause<unknown>): ReadonlyArray<Given> => {
        if (answers.length > 0 && (asked === undefined || asked === heard)) return []
        const unfit = unfitOf(Option.getOrUndefined(Cause.findErrorOption(cause)))
        const facts = asked === undefined ? request : askedBy(asked)
        if (unfit === undefined && !toldOfAnswer(facts)) return []
        return [{ answer: unfit === undefined || unfit.text === "" ? { facts } : { text: unfit.text, facts } }]
      }
      last = undefined
      return ask.pipe(
        Effect.withTracer(watching),
        Effect.provideService(Telemetry.CurrentSpanTransformer, hearing),
        Effect.onExit((exit) => {
          if (Exit.isFailure(exit)) answers.push(...unheard(exit.cause))
          last = answers.at(-1)?.answer
          return Effect.forEach(answers, (given) => note(given, more()), { discard: true })
        })
      )
    })
  return { last: () => last, whileAsking } satisfies Listener
})
