/**
 * Loads the mapper of `sluice record --via`, and makes calls of lines with it.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { statSync } from "node:fs"
import path from "node:path"
import type { CallLine, JsonLine } from "../CallLines.ts"
import { describe, withoutStack } from "../internal/describe.ts"
import { quote } from "../internal/quote.ts"
import * as LineMapper from "../LineMapper.ts"
import * as Application from "./Application.ts"
import { Failed } from "./Failed.ts"
import * as loading from "./loading.ts"

/** Loads the mapper that a module exports as its default. */
export const load = Effect.fnUntraced(function*(file: string) {
  if (statSync(file, { throwIfNoEntry: false })?.isFile() !== true) {
    return yield* new Failed({ reason: `--via: there is no file ${file}` })
  }
  const module = yield* loading.load(path.resolve(file), file, yield* Application.loadTimeout)
  yield* loading.done
  const mapper = loading.defaultOf(module)
  return LineMapper.isLineMapper(mapper)
    ? mapper
    : yield* new Failed({ reason: `${file} must export default what LineMapper.make returns` })
})

/** A line of the file of requests, and whether a line of the results has its key. */
interface Asked extends LineMapper.JsonLine {
  isAnswered: boolean
}

/** The requests by their keys. */
export type Requests = ReadonlyMap<string, Asked>

const keyOf = (mapper: LineMapper.LineMapper, json: Schema.Json): Result.Result<string, string> =>
  Result.try({
    try: () => mapper.key(json),
    catch: (error) => `its key cannot be read: ${describe(error)}`
  }).pipe(Result.flatMap((key: unknown) => {
    if (key === undefined) return Result.fail("has no key that tells what it answers, like custom_id")
    // a module is not type-checked
    return typeof key === "string"
      ? Result.succeed(key)
      : Result.fail(`its key is ${quote(key)}, which is not a string`)
  }))

/**
 * Reads the requests. One that cannot be read, or has another's key, is an error: which answers are missing is not known
 * then.
 */
export const requestsOf = Effect.fnUntraced(function*<E, R>(
  file: string,
  mapper: LineMapper.LineMapper,
  lines: Stream.Stream<JsonLine, E, R>
) {
  const requests = new Map<string, Asked>()
  yield* Stream.runForEach(lines, (line) => {
    const key = Result.flatMap(line.json, (json) => keyOf(mapper, json))
    const wrong = (reason: string) =>
      new Failed({ reason: `${file === "-" ? "standard input" : file}, line ${line.number}: ${reason}` })
    if (Result.isFailure(key)) return wrong(key.failure)
    const other = requests.get(key.success)
    if (other !== undefined) return wrong(`has the key ${quote(key.success)} of line ${other.number}`)
    requests.set(key.success, { json: Result.getOrThrow(line.json), number: line.number, isAnswered: false })
    return Effect.void
  })
  return requests as Requests
})

/** What the mapper makes of a line. Its own errors refuse the line. */
const mapped = (mapper: LineMapper.LineMapper, line: LineMapper.ResultLine) =>
  Effect.suspend(() => {
    const made = mapper.map(line)
    if (Effect.isEffect(made)) return made
    return Predicate.isPromise(made) ? Effect.promise(() => made) : Effect.succeed(made)
  }).pipe(
    Effect.exit,
    Effect.flatMap((exit): Effect.Effect<Result.Result<LineMapper.Mapped, string>> => {
      if (Exit.isSuccess(exit)) return Effect.succeed(Result.succeed(exit.value))
      if (Cause.hasInterruptsOnly(exit.cause)) return Effect.interrupt
      const error = Cause.squash(exit.cause)
      return Effect.succeed(
        Result.fail(`cannot be mapped: ${withoutStack(error instanceof Error ? error.message : String(error))}`)
      )
    })
  )

/** The calls of the lines, without those that are skipped. Marks which requests they answer. */
export const calls = <E, R>(
  mapper: LineMapper.LineMapper,
  lines: Stream.Stream<JsonLine, E, R>,
  requests: Requests,
  skipped: Effect.Effect<void>
): Stream.Stream<CallLine, E, R> => {
  const callsOf = Effect.fnUntraced(function*(line: JsonLine) {
    const { bytes, number } = line
    const refused = (reason: string): ReadonlyArray<CallLine> => [{ bytes, number, call: Result.fail(reason) }]
    if (Result.isFailure(line.json)) return refused(line.json.failure)
    const json = line.json.success
    const key = keyOf(mapper, json)
    if (Result.isFailure(key)) return refused(key.failure)
    const request = requests.get(key.success)
    if (request !== undefined) request.isAnswered = true
    const made = yield* mapped(mapper, { json, number, key: key.success, request })
    if (Result.isFailure(made)) return refused(made.failure)
    // a module is not type-checked
    if (!Predicate.isObject(made.success)) return refused("the mapper returns no call for it")
    if (LineMapper.isRefuse(made.success)) return refused(made.success.reason)
    if (LineMapper.isSkip(made.success)) return yield* Effect.as(skipped, [])
    return [{ bytes, number, call: Result.succeed(made.success) }]
  })
  return Stream.flattenIterable(Stream.mapEffect(lines, callsOf))
}

/** The requests that no line answers, in their order. */
export const missing = (requests: Requests): ReadonlyArray<{ readonly line: number; readonly key: string }> =>
  [...requests].filter(([, { isAnswered }]) => !isAnswered).map(([key, { number }]) => ({ line: number, key }))
