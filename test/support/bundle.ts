/**
 * Programs of the tests as one file each, with all that they import. A process that loads the sources spends more than a
 * second of work on some six hundred files; of a bundle it is a fifth of that.
 */
import { build, type Plugin } from "esbuild"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

/** The folder of this run, which goes with it. */
const folder = (): string => {
  const given = process.env["SLUICE_TEST_FOLDER"]
  if (given !== undefined) return given
  const own = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-programs-"))
  process.once("exit", () => fs.rmSync(own, { recursive: true, force: true }))
  return process.env["SLUICE_TEST_FOLDER"] = own
}

/** A source still finds the files beside it, and the embedded database those of its package. */
const places: Plugin = {
  name: "places",
  setup: ({ onLoad, onResolve }) => {
    onResolve({ filter: /^@electric-sql\// }, ({ path }) => ({ path: import.meta.resolve(path), external: true }))
    onLoad({ filter: /\.ts$/ }, ({ path: file }) => {
      const url = JSON.stringify(pathToFileURL(file).href)
      const dirname = JSON.stringify(path.dirname(file))
      const source = fs.readFileSync(file, "utf8")
      return {
        loader: "ts",
        contents: source.replaceAll("import.meta.url", url).replaceAll("import.meta.dirname", dirname)
      }
    })
  }
}

let count = 0
const made = new Map<string, Promise<string>>()

const make = async (source: string): Promise<string> => {
  const outfile = path.join(folder(), `${path.basename(source, ".ts")}.${process.pid}.${count++}.mjs`)
  await build({
    entryPoints: [source],
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    conditions: ["sluice-source"],
    plugins: [places],
    logLevel: "error",
    banner: { js: "import { createRequire as $r } from 'node:module'; const require = $r(import.meta.url);" }
  })
  return outfile
}

/** The file to run, for a program of the project; made once in a process. */
export const bundle = (program: string | URL): Promise<string> => {
  const source = typeof program === "string" ? program : fileURLToPath(program)
  const known = made.get(source) ?? make(source)
  made.set(source, known)
  return known
}
