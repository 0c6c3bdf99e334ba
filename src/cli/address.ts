/**
 * Checks the address of a database. A wrong address may hold a password in any part: an error quotes nothing of it. Only the
 * host, the port and the database of a valid address are printed.
 */
import * as Result from "effect/Result"

/** The printable part of a valid address, or what is wrong with it, without a quote from it. */
export type Understood = Result.Result<string, string>

const write = "write postgres://user@host:5432/database"
const encode = "in a user's name or a password write / as %2F, @ as %40, # as %23, ? as %3F and % as %25"

const decoded = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

// an IPv6 address (in brackets or not), a name, or the folder of a socket, which begins with a slash
const isHost = (host: string): boolean => /^(\[[0-9a-f:.]+\]|[\w.-]+|[0-9a-f:.]+|\/[\w./ -]+)$/i.test(host)

const modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
/** Parameters whose wrong values the client refuses. */
const parameters: ReadonlyMap<string, (value: string) => string | undefined> = new Map([
  ["port", (value) => /^\d{1,5}$/.test(value) && Number(value) <= 65_535 ? undefined : "is not a port"],
  ["connect_timeout", (value) => /^\d+$/.test(value) ? undefined : "is not a number of seconds"],
  ["sslmode", (value) => modes.includes(value) ? undefined : `is not one of ${modes.join(", ")}`]
])

const severalHosts =
  "names several hosts, of which one connection cannot find the primary: name the one that leads to it, " +
  "a pooler's or the cluster's own"

// a password may hold a comma: only the part after the last @ names hosts
const namesSeveralHosts = (address: string): boolean => {
  const [, authority = "", , query = ""] = /^\w+:\/\/([^/?#]*)([^?]*)\??(.*)$/.exec(address) ?? []
  return authority.slice(authority.lastIndexOf("@") + 1).includes(",") || /(^|&)host=[^&]*(,|%2C)/i.test(query)
}

const parse = (text: string): URL | undefined => URL.canParse(text) ? new URL(text) : undefined

/** Checks an address. */
export const understand = (text: string): Understood => {
  if (/^\s*["'`]/.test(text)) return Result.fail("begins with a quotation mark, which is taken as it is: leave it out")
  if (/^postgres(ql)?:/i.test(text) && namesSeveralHosts(text)) return Result.fail(severalHosts)
  const url = parse(text)
  if (url === undefined || !/^postgres(ql)?:$/.test(url.protocol) || !/^\s*postgres(ql)?:\/\//i.test(text)) {
    return Result.fail(`is not a URL of a Postgres server: ${write}; ${encode}`)
  }
  const { hash, password, pathname, search, searchParams, username } = url
  const rest = pathname.slice(1)
  // an unencoded / @ # or ? in the password ends the host early: the rest lands in these parts
  if (/[@/]/.test(rest) || search.includes("@") || hash !== "") {
    return Result.fail(`cannot be understood: ${encode}`)
  }
  const [host, database] = [decoded(url.hostname), decoded(rest)]
  if (
    host === undefined || database === undefined || decoded(username) === undefined || decoded(password) === undefined
  ) {
    return Result.fail(`holds a % that begins no %XX: ${encode}`)
  }
  for (const [name, value] of searchParams) {
    const problem = parameters.get(name)?.(value)
    if (problem !== undefined) return Result.fail(`has a parameter ${name} that ${problem}`)
  }
  const where = searchParams.getAll("host").at(-1) ?? (host === "" ? "localhost" : host)
  if (where.includes(",")) return Result.fail(severalHosts)
  if (!isHost(where)) return Result.fail(`has no host that could be one: ${write}; ${encode}`)
  const port = searchParams.getAll("port").at(-1) ?? url.port
  return Result.succeed(
    `${where}${port === "" ? "" : `:${port}`}/${searchParams.getAll("dbname").at(-1) ?? database}`
  )
}

/** Whether a typed text looks like an address, or may hold a password. */
export const mayHoldPassword = (text: string): boolean => /:.*@|:\/\/|^postgres(ql)?:|pass(word|wd)?=/is.test(text)
