/**
 * Reads settings as people write them.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

/** Reads a whole number. */
export const parseWhole = (text: string): number | undefined =>
  /^\S+$/.test(text) && Number.isInteger(Number(text)) ? Number(text) : undefined

const units = { ms: "millis", s: "seconds", m: "minutes", min: "minutes", h: "hours", d: "days" } as const
const isUnit = (text: string): text is keyof typeof units => Object.hasOwn(units, text)

/** Reads `30 seconds`, as Effect writes a duration, or the short form `30s`. */
export const parseDuration = (text: string): Duration.Duration | undefined => {
  const [, amount, unit = ""] = /^(\d+(?:\.\d+)?) ?([a-z]+)$/.exec(text) ?? []
  // a string that is not a duration gives none
  const input = isUnit(unit) ? `${Number(amount)} ${units[unit]}` as const : text as Duration.Input
  return Option.getOrUndefined(Duration.fromInput(input))
}

const words = new Map([
  ...["true", "yes", "on", "1", "y"].map((word) => [word, true] as const),
  ...["false", "no", "off", "0", "n"].map((word) => [word, false] as const)
])
/** Reads `true`, `no` and their like, as Effect writes them, in any case. */
export const parseChoice = (text: string): boolean | undefined => words.get(text.toLowerCase())

/** Whether the client understands an address: a URL, whose parts are encoded as in one. */
export const isServer = (text: string): boolean => {
  if (!/^postgres(ql)?:\/\//.test(text) || !URL.canParse(text)) return false
  const { hostname, password, pathname, username } = new URL(text)
  return Result.isSuccess(Result.try(() => [hostname, password, pathname, username].map(decodeURIComponent)))
}
