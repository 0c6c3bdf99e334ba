/**
 * Spans of time as people write them on a command line: `5s`, `2h`, `90d`, or in words, `"5 seconds"`.
 */
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { quote } from "../internal/quote.ts"
import { parseDuration } from "../Settings.ts"
import { Failed } from "./Failed.ts"

/** Reads one: of some length, and with an end. */
export const parse = (text: string): Option.Option<Duration.Duration> =>
  Option.filter(
    Option.fromUndefinedOr(parseDuration(text)),
    (span) => Duration.isGreaterThan(span, Duration.zero) && Duration.isFinite(span)
  )

const notADuration = (text: string): string => `${quote(text)} is no span of time: write 5s, 2h or 90d`

/** Reads one, or says where it was said and how it is written. */
export const read = (where: string, text: string): Effect.Effect<Duration.Duration, Failed> =>
  Option.match(parse(text), {
    onNone: () => new Failed({ reason: `${where}: ${notADuration(text)}` }),
    onSome: Effect.succeed
  })

/** A flag for one. */
export const flag = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("SPAN"),
    Flag.withDescription(description),
    Flag.filterMap(parse, notADuration)
  )
