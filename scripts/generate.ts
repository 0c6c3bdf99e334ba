/**
 * Writes the sources that are made from other files, so that a program needs no file of the package at run time and can be
 * bundled: the migrations from `sql/*.sql`, the version from `package.json`. With `--check` it writes nothing, and fails
 * when one of them is not what it would write.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"

const root = path.dirname(import.meta.dirname)
const head = (from: string) => `// Made from ${from} by \`npm run generate\`. Do not edit.\n`
const template = (text: string) => `\`${text.replaceAll(/[\\`]|\$(?=\{)/g, "\\$&")}\``

const migrations = (): string => {
  const folder = path.join(root, "sql")
  const files = readdirSync(folder).filter((name) => /^\d+_.+\.sql$/.test(name)).sort()
  const entries = files.map((name) => `  "${name}":\n    ${template(readFileSync(path.join(folder, name), "utf8"))}`)
  return `${head("sql/*.sql")}
/** The migrations' SQL, by the names of its files. */
export const migrationFiles: Readonly<Record<string, string>> = {
${entries.join(",\n")}
}
`
}

const version = (): string => {
  const { version } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as { readonly version: string }
  return `${head("package.json")}
/** The package's version. */
export const version = "${version}"
`
}

/** The generated files, by their paths in the project, and what must stand in each. */
export const generated = (): ReadonlyArray<readonly [file: string, text: string]> => [
  ["src/store/pg/migrationFiles.ts", migrations()],
  ["src/cli/version.ts", version()]
]

const isStale = ([file, text]: readonly [file: string, text: string]): boolean => {
  try {
    return readFileSync(path.join(root, file), "utf8") !== text
  } catch {
    return true
  }
}

/** Those that are not what they must be. */
export const stale = (): ReadonlyArray<string> => generated().filter(isStale).map(([file]) => file)

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes("--check")) {
    const files = stale()
    if (files.length > 0) {
      process.stderr.write(`not up to date: ${files.join(", ")}; run \`npm run generate\`\n`)
      process.exitCode = 1
    }
  } else {
    for (const [file, text] of generated()) writeFileSync(path.join(root, file), text)
  }
}
