/**
 * Whether the answer is to be JSON. Decided in one place, because a command that fails is asked as well, also one whose
 * flags were not understood, and a process that ends before its time.
 */

const yes = ["true", "yes", "on", "1", "y"]
const no = ["false", "no", "off", "0", "n"]

/** What the command line says, by the rules by which flags are parsed: the last one counts, and none stands after `--`. */
const inArguments = (all: ReadonlyArray<string>): boolean | undefined => {
  const end = all.indexOf("--")
  const args = end === -1 ? all : all.slice(0, end)
  let found: boolean | undefined
  for (const [index, arg] of args.entries()) {
    if (arg === "--json") found = !no.includes(args[index + 1] ?? "")
    else if (arg.startsWith("--json=")) found = !no.includes(arg.slice("--json=".length))
    else if (arg === "--no-json") found = false
  }
  return found
}

let settled: boolean | undefined

/** A command has read its flag and its settings: that counts from now on. None has, when it is undefined. */
export const settle = (wanted: boolean | undefined): void => {
  settled = wanted
}

/** What the command has read; before it has, what the command line says, and then the environment. */
export const isWanted = (): boolean =>
  settled ?? inArguments(process.argv.slice(2)) ?? yes.includes(process.env["SLUICE_JSON"] ?? "")
