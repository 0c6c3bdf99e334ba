#!/usr/bin/env node
/**
 * Starts the command, or says which peer packages or Node version it needs. With a missing package this file must
 * still load, to print that instead of a stack trace: statically it imports only a file that imports nothing.
 */
import * as packages from "./packages.ts"

// Listens before the rest loads, which takes a while: the first process of a container ignores a signal that it does not
// listen for. Nothing is under way yet, so the process can exit immediately.
const early = { SIGINT: () => process.exit(130), SIGTERM: () => process.exit(143) }
process.on("SIGINT", early.SIGINT).on("SIGTERM", early.SIGTERM)

const needed = packages.required.map(packages.nameOf)

const isThere = (name: string): boolean => {
  try {
    import.meta.resolve(name)
    return true
  } catch {
    return false
  }
}

const missing = needed.filter((name) => !isThere(name))
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)

if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(`sluice needs Node 22.19 or later; this is ${process.versions.node}\n`)
  process.exitCode = 1
} else if (missing.length > 0) {
  process.stderr.write(
    `sluice needs ${missing.join(" and ")} beside it. Install what the command uses:\n\n` +
      `  npm install effect-sluice ${packages.required.join(" ")} \\\n    ${packages.embedded.join(" ")}\n\n` +
      "The last two are the embedded database: not needed with a Postgres server.\n"
  )
  process.exitCode = 1
} else {
  const { listen, run } = await import("./main.ts")
  listen()
  // before it runs: while it loads a user's file, it keeps the listeners that it finds
  process.off("SIGINT", early.SIGINT).off("SIGTERM", early.SIGTERM)
  run()
}
