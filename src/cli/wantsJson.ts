/**
 * Whether the answer is JSON. Decided in one place, because errors need it as well: those of a command, of flags that do not
 * parse, and of a process that ends too early.
 */

const yes = ["true", "yes", "on", "1", "y"]
const no = ["false", "no", "off", "0", "n"]

/** What the command line says, by the rules of the flag parser: the last flag counts, and `--` ends the flags. */
const inArguments = (all: ReadonlyArray<string>): boolean | undefined => {
  const end = all.indexOf("--")
  const args = end === -1 ? all : all.slice(0, end)
  let found: boolean | undefined
  for (const arg of args) {
    if (arg === "--json") found = true
    else if (arg.startsWith("--json=")) found = !no.includes(arg.slice("--json=".length))
    else if (arg === "--no-json") found = false
  }
  return found
}

let settled: boolean | undefined

/** Sets what a command has read from its flag and settings: this value counts from now on. `undefined` clears it. */
export const settle = (wanted: boolean | undefined): void => {
  settled = wanted
}

/** The value that the command has read; before that, the command line's, and then the environment's. */
export const isWanted = (): boolean =>
  settled ?? inArguments(process.argv.slice(2)) ?? yes.includes((process.env["SLUICE_JSON"] ?? "").toLowerCase())
