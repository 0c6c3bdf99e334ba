/**
 * How Postgres goes about the statements of an effect: they are seen on their way to the server, and explained there.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as Statement from "effect/sql/Statement"

/** A step of a plan, as `explain (analyze, format json)` tells it. */
export interface Step {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Index Name"?: string
  readonly "Actual Rows": number
  readonly "Actual Loops": number
  readonly "Rows Removed by Filter"?: number
  readonly "Rows Removed by Index Recheck"?: number
  readonly Plans?: ReadonlyArray<Step>
}
const stepsOf = (step: Step): ReadonlyArray<Step> => [step, ...(step.Plans ?? []).flatMap(stepsOf)]
const inAll = (step: Step, rows: number) => Math.round(rows * step["Actual Loops"])
/** Rows that a step looked at. */
export const readBy = (step: Step) =>
  inAll(
    step,
    step["Actual Rows"] + (step["Rows Removed by Filter"] ?? 0) + (step["Rows Removed by Index Recheck"] ?? 0)
  )

/** A statement as it is sent. */
export type Sent = readonly [text: string, parameters: ReadonlyArray<unknown>]

/** What an effect comes to, and the statements it sent. */
export const watched = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
  const sent: Array<Sent> = []
  const value = yield* Effect.provideService(effect, Statement.CurrentTransformer, (statement) => {
    sent.push(statement.compile())
    return Effect.succeed(statement)
  })
  return { value, sent }
})

class Looked extends Data.TaggedError("Looked")<{ readonly steps: ReadonlyArray<Step> }> {}

/** How the server goes about a statement the first time, and when it has come so often that a plan for all might be kept. */
export const plansOf = Effect.fnUntraced(function*([text, parameters]: Sent) {
  const sql = yield* SqlClient.SqlClient
  yield* sql.unsafe(`prepare looked_at as ${text}`)
  const given = parameters.map((value) => Array.isArray(value) ? `'{${value.join()}}'` : `'${String(value)}'`).join()
  const times = 7
  const look = sql.withTransaction(Effect.gen(function*() {
    const [row] = yield* sql.unsafe<{ "QUERY PLAN": ReadonlyArray<{ Plan: Step }> }>(
      `explain (analyze, format json) execute looked_at${parameters.length === 0 ? "" : `(${given})`}`
    )
    // what `analyze` did is not to stay
    return yield* new Looked({ steps: row!["QUERY PLAN"].flatMap(({ Plan }) => stepsOf(Plan)) })
  }))
  const plans = yield* Effect.forEach(
    Array.from({ length: times }),
    () => Effect.catchTag(look, "Looked", ({ steps }) => Effect.succeed(steps))
  )
  yield* sql.unsafe("deallocate looked_at")
  return [["first", plans[0]!], ["again", plans.at(-1)!]] as const
})
