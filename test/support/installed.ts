/**
 * The package as others get it: packed, and installed in a project of its own with what it needs beside it. Once for a
 * whole run, by the first test file that asks; the others wait for it.
 */
import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import path from "node:path"
import { promisify } from "node:util"
import { inject } from "vitest"

const exec = promisify(execFile)
const root = path.resolve(import.meta.dirname, "../..")

/** What a user installs beside the package. */
const beside = [
  "effect",
  "@effect/platform-node",
  "@effect/sql-pg",
  "@electric-sql/pglite",
  "@electric-sql/pglite-socket",
  "@types/node"
]

const install = async (project: string) => {
  const packed = await exec("npm", ["pack", "--json", "--pack-destination", project], { cwd: root })
  // what the build says comes before
  const [{ filename }] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf("[\n")))
  const { devDependencies } = JSON.parse(await fs.readFile(path.join(root, "package.json"), "utf8"))
  await fs.writeFile(
    path.join(project, "package.json"),
    JSON.stringify({
      name: "consumer",
      private: true,
      type: "module",
      dependencies: {
        "effect-sluice": `file:${filename}`,
        ...Object.fromEntries(beside.map((name) => [name, devDependencies[name]]))
      }
    })
  )
  await exec("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund"], { cwd: project })
  await fs.rename(path.join(project, filename), path.join(project, "package.tgz"))
}

const exists = (file: string) => fs.access(file).then(() => true, () => false)

/** The project's folder; the packed package lies in it as `package.tgz`. */
export const installed = async (): Promise<string> => {
  const folder = inject("runFolder")
  const project = path.join(folder, "project")
  const done = path.join(folder, "done")
  // whoever makes the folder does the work
  const isFirst = await fs.mkdir(project).then(() => true, () => false)
  if (isFirst) {
    const problem = await install(project).then(() => "", (error: unknown) => String(error))
    await fs.writeFile(`${done}.part`, problem)
    await fs.rename(`${done}.part`, done)
  }
  while (!(await exists(done))) await new Promise((resolve) => setTimeout(resolve, 100))
  const problem = await fs.readFile(done, "utf8")
  if (problem !== "") throw new Error(`the package could not be installed: ${problem}`)
  return project
}
