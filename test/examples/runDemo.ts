/**
 * Runs the examples' programs as a user does: as processes of their own.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"
import { bundle } from "../support/bundle.ts"

const root = fileURLToPath(new URL("../../", import.meta.url))

/** The recorded dialogues, which stand beside the project where they are available. */
export const dataFolder = fileURLToPath(new URL("../../../shared/data/", import.meta.url))
export const hasData = existsSync(dataFolder)

/** How a program ended, and what it said. */
export interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A program under way. */
export interface Running {
  readonly process: ChildProcess
  readonly ended: Promise<Ended>
  /** Resolves when it has said something like this; rejects when it ends without. */
  readonly said: (what: RegExp) => Promise<void>
}

const under = new Set<ChildProcess>()

/** Starts a program of `examples/`. */
export const start = (
  program: string,
  args: ReadonlyArray<string> = [],
  env: { readonly [name: string]: string } = {}
): Running => run(["--conditions=sluice-source", `examples/${program}`, ...args], env)

const run = (args: ReadonlyArray<string>, env: { readonly [name: string]: string } = {}): Running => {
  const child = spawn(process.execPath, args, { cwd: root, env: { ...process.env, ...env } })
  under.add(child)
  const output = { stdout: "", stderr: "" }
  const heard = new Set<() => void>()
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text
      for (const listener of heard) listener()
    })
  }
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject)
    child.on("close", (status) => {
      under.delete(child)
      resolve({ status, ...output })
    })
  })
  const said = (what: RegExp) =>
    new Promise<void>((resolve, reject) => {
      const listen = () => {
        if (what.test(output.stdout) || what.test(output.stderr)) resolve()
      }
      heard.add(listen)
      listen()
      void ended.then(({ stderr }) => reject(new Error(`ended without saying ${what}: ${stderr}`)))
    })
  return { process: child, ended, said }
}

/** Runs the demo to its end, bundled: it starts many times. */
export const demo = async (...args: ReadonlyArray<string>): Promise<Ended> =>
  run([await bundle(path.join(root, "examples/chatlab/main.ts")), ...args]).ended

/** The JSON on the last line of what was said. */
export const lastJson = ({ stderr, stdout }: Ended): unknown => {
  const last = stdout.trimEnd().split("\n").at(-1) ?? ""
  if (!last.startsWith("{")) throw new Error(`no JSON at the end of ${JSON.stringify(stdout)}; stderr: ${stderr}`)
  return JSON.parse(last)
}

/** Ends what a failed test left running. */
export const killAll = (): void => {
  for (const child of under) child.kill("SIGKILL")
}
