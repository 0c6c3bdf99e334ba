/**
 * Answers that are lists, on every store: an element that is bad dies alone, and the others arrive.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as CallRecorder from "../../CallRecorder.ts"
import * as DeadLetters from "../../DeadLetters.ts"
import * as DomainEvents from "../../DomainEvents.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as Drain from "../../Drain.ts"
import * as HandlerPlugin from "../../HandlerPlugin.ts"
import * as HandlerRegistry from "../../HandlerRegistry.ts"
import * as Output from "../../Output.ts"
import { call } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"

class Finding extends Output.make("schemas.chatlab.standardized_patient.finding", {
  schema: Schema.Struct({ code: Schema.String, text: Schema.String })
}) {}

/** A program: a recorder and a drain, whose handler tells which findings it was given. */
const program = (persisted: Array<string>) =>
  Layer.build(
    Layer.merge(CallRecorder.layer, Layer.fresh(Drain.layer)).pipe(
      Layer.provide(
        Layer.fresh(HandlerRegistry.layer()).pipe(
          Layer.provide(HandlerPlugin.layer("chatlab", Finding, ({ call, output }) =>
            Effect.sync(() => {
              persisted.push(output.code)
              return DomainObject.make("chatlab.Finding", call.part)
            })))
        )
      ),
      Layer.provide(DomainEvents.layer)
    )
  )

const answer: ReadonlyArray<Schema.Json> = [
  { code: "M25", text: "It hurts on the inside." },
  { code: "S83", text: 7 },
  { code: "M25", text: "It is swollen." },
  { text: "no code\u0000" },
  { code: "R26", text: "It locks." }
]

const states = Effect.map(
  inspect.call("knee"),
  (view) => Option.getOrThrow(view).chunks.map((chunk) => `${chunk.key.part} ${chunk.state}`)
)

export const elements = topic("elements", (test) => {
  test("an element that does not decode is a dead letter of its own, and its siblings are persisted", () =>
    Effect.gen(function*() {
      const persisted: Array<string> = []
      const context = yield* program(persisted)
      const recorder = Context.get(context, CallRecorder.CallRecorder)
      const list = () => ({ ...call("knee"), outputs: Finding.each(answer, { part: "code" }) })
      expect(yield* recorder.record(list())).toBe("recorded")
      // the same answer has the same parts
      expect(yield* recorder.record(list())).toBe("unchanged")
      expect(yield* Context.get(context, Drain.Drain).untilEmpty).toMatchObject({ claimed: 5, persisted: 3, dead: 2 })
      expect(persisted.toSorted()).toEqual(["M25", "M25", "R26"])
      expect(yield* states).toEqual(["M25 persisted", "S83 dead", "M25#2 persisted", "#3 dead", "R26 persisted"])
      const letters = yield* DeadLetters.DeadLetters.use((dead) => dead.list({}, { limit: 10 }))
      expect(letters.map(({ reason }) => reason)).toEqual(["undecodable", "undecodable"])
    }))

  test(
    "elements of a call with an ordering key are persisted in order, and a dead one blocks those after it",
    () =>
      Effect.gen(function*() {
        const persisted: Array<string> = []
        const context = yield* program(persisted)
        const ordered = { ...call("knee"), orderingKey: "knee", outputs: Finding.each(answer.toSpliced(3, 1)) }
        yield* Context.get(context, CallRecorder.CallRecorder).record(ordered)
        const drain = Context.get(context, Drain.Drain)
        yield* drain.untilEmpty
        expect(yield* states).toEqual(["0 persisted", "1 dead", "2 waiting", "3 waiting"])
        yield* DeadLetters.DeadLetters.use((dead) => dead.discard({ callId: "knee" }, "not a finding"))
        yield* drain.untilEmpty
        expect(yield* states).toEqual(["0 persisted", "1 discarded", "2 persisted", "3 persisted"])
        expect(persisted).toEqual(["M25", "M25", "R26"])
      }),
    { deadBlocksKey: true }
  )
})
