/**
 * Packages that one test needs and `npm ci` should not wait for: installed from npm when it is run, and kept beside the
 * project's packages for the next time.
 */
import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import path from "node:path"
import { promisify } from "node:util"

const exec = promisify(execFile)
const root = path.resolve(import.meta.dirname, "../..")

/** The folder a package is in, or why it cannot be had. `spec` is what npm is asked for. */
export const onDemand = async (
  name: string,
  spec: string
): Promise<{ readonly folder: string } | { readonly problem: string }> => {
  const place = path.join(root, "node_modules/.cache/on-demand", spec.replaceAll(/[^\w.-]/g, "_"))
  const folder = path.join(place, "node_modules", name)
  const isThere = await fs.access(folder).then(() => true, () => false)
  if (isThere) return { folder }
  try {
    const making = `${place}.${process.pid}`
    await fs.mkdir(making, { recursive: true })
    await fs.writeFile(path.join(making, "package.json"), JSON.stringify({ private: true }))
    await exec("npm", ["install", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", spec], {
      cwd: making,
      timeout: 120_000
    })
    // several runs may install it at once: the first one stays
    await fs.rename(making, place).catch(() => fs.rm(making, { recursive: true, force: true }))
    return { folder }
  } catch (error) {
    return { problem: `npm could not install ${spec}: ${String(error).split("\n", 1)[0]}` }
  }
}
