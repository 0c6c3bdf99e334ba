/**
 * Parses, formats and validates identities, the names of the parts of LLM services: `domain.namespace.group.name`, for
 * example `schemas.chatlab.standardized_patient.patient-reply`. Identities are written down, never derived from a class
 * name, so recorded calls still match after a class is renamed.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"
import { quote } from "./internal/quote.ts"

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

/** A parsed identity. Every part is non-empty, at most 128 characters of `A-Z a-z 0-9 _ -`, without a dot. */
export interface Identity {
  /** What kind of part it names. */
  readonly domain: Domain
  /** The application, or the tenant. */
  readonly namespace: string
  /** A group of services within the namespace. */
  readonly group: string
  /** The name within the group. */
  readonly name: string
}

/** A string that is not an identity. `part` names the wrong part, `reason` says why. */
export class IdentityInvalid extends Schema.TaggedError<IdentityInvalid>()("IdentityInvalid", {
  text: Schema.String,
  part: Schema.Literals(["parts", "domain", "namespace", "group", "name"]),
  reason: Schema.String
}) {
  override get message() {
    return `${quote(this.text)} is not an identity: ${this.part === "parts" ? "" : `${this.part}: `}${this.reason} ` +
      `(write domain.namespace.group.name)`
  }
}

const partPattern = /^[A-Za-z0-9_-]+$/

/** Why `part` is not valid in an identity (or as a namespace), or `undefined` if it is. */
export const partProblem = (part: string): string | undefined =>
  // a caller without types may pass anything
  typeof part !== "string"
    ? "is not a string"
    : part.length === 0
    ? "is empty"
    : part.length > maxPartLength
    ? `has ${part.length} characters, more than ${maxPartLength}`
    : partPattern.test(part)
    ? undefined
    : "may hold only A-Z a-z 0-9 _ -"

const domainProblem = (domain: string): string | undefined =>
  (domains as ReadonlyArray<string>).includes(domain)
    ? undefined
    : `${quote(domain)} is not one of ${domains.join(", ")}`

const partNames = ["namespace", "group", "name"] as const

/** The first wrong part, and the reason. */
const problemOf = (parts: Record<keyof Identity, string>): Pick<IdentityInvalid, "part" | "reason"> | undefined => {
  const wrongDomain = domainProblem(parts.domain)
  if (wrongDomain !== undefined) return { part: "domain", reason: wrongDomain }
  for (const part of partNames) {
    const reason = partProblem(parts[part])
    if (reason !== undefined) return { part, reason }
  }
  return undefined
}

/**
 * Parses an identity. Fails with {@link IdentityInvalid}, which names the wrong part.
 *
 * ```ts
 * const reply = Result.getOrThrow(Identity.parse("schemas.chatlab.standardized_patient.patient-reply"))
 * reply.name // "patient-reply"
 * ```
 */
export const parse = (text: string): Result.Result<Identity, IdentityInvalid> => {
  const parts = text.split(".")
  const [domain = "", namespace = "", group = "", name = ""] = parts
  if (parts.length !== 4) {
    const counted = parts.length === 1 ? "1 part" : `${parts.length} parts`
    return Result.fail(new IdentityInvalid({ text, part: "parts", reason: `it has ${counted} and not 4` }))
  }
  const problem = problemOf({ domain, namespace, group, name })
  // without a problem the domain is one of `domains`
  return problem === undefined
    ? Result.succeed({ domain: domain as Domain, namespace, group, name })
    : Result.fail(new IdentityInvalid({ text, ...problem }))
}

/** The text of an identity: the inverse of {@link parse}. */
export const format = (identity: Identity): string =>
  `${identity.domain}.${identity.namespace}.${identity.group}.${identity.name}`

/**
 * Checks an identity that was built from parts: a dot inside a part is an error of that part. Returns the identity, or
 * the error that names the wrong part.
 */
export const validate = (identity: Identity): Result.Result<Identity, IdentityInvalid> => {
  const problem = problemOf(identity)
  return problem === undefined
    ? Result.succeed(identity)
    : Result.fail(new IdentityInvalid({ text: format(identity), ...problem }))
}

const toEffect = <A>(result: Result.Result<A, IdentityInvalid>) =>
  Effect.fromResult(Result.mapError(result, ({ message }) => new SchemaIssue.InvalidValue({ message })))

const IdentityFields = Schema.Struct({
  domain: Schema.Literals(domains),
  namespace: Schema.String,
  group: Schema.String,
  name: Schema.String
})

/** The JSON codec: a string on the outside, an {@link Identity} on the inside. */
export const IdentityFromString = Schema.String.pipe(Schema.decodeTo(
  IdentityFields,
  SchemaTransformation.transformEffect({
    decode: (text: string) => toEffect(parse(text)),
    encode: (identity: Identity) => toEffect(Result.map(validate(identity), format))
  })
))
