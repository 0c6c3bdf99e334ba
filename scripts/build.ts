/**
 * Builds `dist/` afresh, so that nothing stays in it that the sources no longer have.
 */
import { execFileSync } from "node:child_process"
import { rmSync } from "node:fs"
import { createRequire } from "node:module"
import path from "node:path"
import { stale } from "./generate.ts"

const root = path.dirname(import.meta.dirname)
const compiler = path.join(path.dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc")

const old = stale()
if (old.length > 0) throw new Error(`not up to date: ${old.join(", ")}; run \`npm run generate\``)

rmSync(path.join(root, "dist"), { recursive: true, force: true })
execFileSync(process.execPath, [compiler, "-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" })
