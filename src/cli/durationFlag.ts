/**
 * Parses durations from the command line: `5s`, `2h`, `90d`, or in words, `"5 seconds"`.
 */
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { parseDuration } from "../internal/parseSetting.ts"
import { quote } from "../internal/quote.ts"
import { Failed } from "./Failed.ts"

/** Parses a duration above zero that is finite. */
export const parse = (text: string): Option.Option<Duration.Duration> =>
  Option.filter(
    Option.fromUndefinedOr(parseDuration(text)),
    (span) => Duration.isGreaterThan(span, Duration.zero) && Duration.isFinite(span)
  )

const notADuration = (text: string): string => `${quote(text)} is not a duration: write 5s, 2h or 90d`

/** Parses a duration, or fails with the flag or variable it came from and the expected format. */
export const read = (where: string, text: string): Effect.Effect<Duration.Duration, Failed> =>
  Option.match(parse(text), {
    onNone: () => new Failed({ reason: `${where}: ${notADuration(text)}` }),
    onSome: Effect.succeed
  })

/** A flag whose value is a duration. */
export const flag = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("SPAN"),
    Flag.withDescription(description),
    Flag.filterMap(parse, notADuration)
  )
