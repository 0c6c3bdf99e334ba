/**
 * Identities name what an application's LLM services are made of: `domain.namespace.group.name`, for example
 * `schemas.chatlab.standardized_patient.patient-reply`. They are written down, never derived from a class name, so
 * that renaming a class orphans nothing.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"

/** The domains an identity may begin with. */
export const domains = [
  "services",
  "codecs",
  "prompt-sections",
  "schemas",
  "provider-backends",
  "providers",
  "persist"
] as const

/** One of {@link domains}. */
export type Domain = typeof domains[number]

/** The most characters one part of an identity may have. */
export const maxPartLength = 128

/** An identity taken apart. Every part is non-empty, at most 128 characters of `A-Z a-z 0-9 _ -`, without a dot. */
export interface Identity {
  readonly domain: Domain
  readonly namespace: string
  readonly group: string
  readonly name: string
}

/** Which part of an identity is wrong; `"parts"` means their number. */
export type WrongPart = "parts" | keyof Identity

/** A text that is not an identity. `part` names what is wrong with it, `reason` says how. */
export class IdentityInvalid extends Schema.TaggedError<IdentityInvalid>()("IdentityInvalid", {
  text: Schema.String,
  part: Schema.Literals(["parts", "domain", "namespace", "group", "name"]),
  reason: Schema.String
}) {
  override get message() {
    return `${JSON.stringify(this.text)} is not an identity: ${this.part}: ${this.reason} ` +
      `(write domain.namespace.group.name)`
  }
}

const partPattern = /^[A-Za-z0-9_-]+$/

/** Why `part` cannot stand in an identity (or as a namespace), or `undefined` if it can. */
export const partProblem = (part: string): string | undefined =>
  part.length === 0
    ? "is empty"
    : part.length > maxPartLength
    ? `has ${part.length} characters, more than ${maxPartLength}`
    : partPattern.test(part)
    ? undefined
    : "may hold only A-Z a-z 0-9 _ -"

const isDomain = (text: string): text is Domain => (domains as ReadonlyArray<string>).includes(text)

/** The same as {@link parse}, as a plain value: the identity, or the error. */
export const parseResult = (text: string): Identity | IdentityInvalid => {
  const parts = text.split(".")
  const [domain, namespace, group, name] = parts
  if (
    parts.length !== 4 || domain === undefined || namespace === undefined || group === undefined || name === undefined
  ) {
    return new IdentityInvalid({ text, part: "parts", reason: `has ${parts.length} parts, not 4` })
  }
  if (!isDomain(domain)) {
    return new IdentityInvalid({
      text,
      part: "domain",
      reason: `${JSON.stringify(domain)} is none of ${domains.join(", ")}`
    })
  }
  for (const [part, value] of [["namespace", namespace], ["group", group], ["name", name]] as const) {
    const problem = partProblem(value)
    if (problem !== undefined) return new IdentityInvalid({ text, part, reason: problem })
  }
  return { domain, namespace, group, name }
}

/**
 * Takes a text apart; fails with {@link IdentityInvalid}, which names the part that is wrong.
 *
 * ```ts
 * const reply = yield* Identity.parse("schemas.chatlab.standardized_patient.patient-reply")
 * reply.name // "patient-reply"
 * ```
 */
export const parse = (text: string): Effect.Effect<Identity, IdentityInvalid> =>
  Effect.suspend(() => {
    const identity = parseResult(text)
    return identity instanceof IdentityInvalid ? Effect.fail(identity) : Effect.succeed(identity)
  })

/** The text of an identity: the inverse of {@link parse}. */
export const print = (identity: Identity): string =>
  `${identity.domain}.${identity.namespace}.${identity.group}.${identity.name}`

/** Checks an identity put together by hand: succeeds with it, or fails naming the part that is wrong. */
export const validate = (identity: Identity): Effect.Effect<Identity, IdentityInvalid> => parse(print(identity))

const IdentityFields = Schema.Struct({
  domain: Schema.Literals(domains),
  namespace: Schema.String,
  group: Schema.String,
  name: Schema.String
})

/** The JSON codec: a string on the outside, an {@link Identity} on the inside. */
export const FromString = Schema.String.pipe(Schema.decodeTo(
  IdentityFields,
  SchemaTransformation.transformEffect({
    decode: (text: string) =>
      parse(text).pipe(Effect.mapError((error) => new SchemaIssue.InvalidValue({ message: error.message }))),
    encode: (identity: Identity) => Effect.succeed(print(identity))
  })
))
