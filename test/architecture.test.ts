/**
 * ARCHITECTURE.md's picture, held against the imports: a file may use its own storey and those below it.
 */
import { globSync, readFileSync } from "node:fs"
import path from "node:path"
import { describe, expect, it } from "vitest"

const root = path.dirname(import.meta.dirname)

/** The storeys, from the ground up. What is named by no pattern is a file the picture does not have. */
const storeys: ReadonlyArray<readonly [storey: string, files: RegExp]> = [
  [
    "words",
    /^(Identity|Output|OutputGroup|Handler|HandlerPlugin|ServiceCall|DomainObject|Settings|RetryPolicy|Metrics)$/
  ],
  ["port", /^(ChunkStore|EventLog|WakeUp|DeadLetters|Pauses|Retention)$/],
  [
    "services",
    /^(Drain|CallLines|CallRecorder|ChunkLedger|HandlerRegistry|HandlerDiscovery|DomainEvents|internal\/.*)$/
  ],
  ["worker", /^(DrainWorker|Subscription)$/],
  ["faces", /^(cli\/.*|testing(\/.*)?|index)$/]
]

const sources = globSync("**/*.ts", { cwd: path.join(root, "src") }).map((file) => file.replace(/\.ts$/, ""))
const storeyOf = (file: string) => storeys.findIndex(([, files]) => files.test(file))
const isStore = (file: string) => file.startsWith("store/")

const importsOf = (file: string): ReadonlyArray<string> => {
  const text = readFileSync(path.join(root, "src", `${file}.ts`), "utf8")
  return [...text.matchAll(/^(?:import|export)[^"]*?from "(\.[^"]+)"/gm)].map(([, target]) =>
    path.posix.join(path.posix.dirname(file), target ?? "").replace(/\.ts$/, "")
  )
}

describe("the house", () => {
  it("every file has its place in the picture", () => {
    expect(sources.length).toBeGreaterThan(30)
    expect(sources.filter((file) => !isStore(file) && storeyOf(file) === -1)).toEqual([])
  })

  it("no file imports upward", () => {
    const upward = sources.filter((file) => !isStore(file)).flatMap((file) =>
      importsOf(file).filter((target) => !isStore(target) && storeyOf(target) > storeyOf(file)).map((target) =>
        `${file} → ${target}`
      )
    )
    expect(upward).toEqual([])
  })

  it("stores know the port and the words only, and only faces know a store", () => {
    const port = storeys.findIndex(([storey]) => storey === "port")
    const faces = storeys.findIndex(([storey]) => storey === "faces")
    const wrong = sources.flatMap((file) =>
      importsOf(file).filter((target) =>
        isStore(file)
          ? !isStore(target) && storeyOf(target) > port
          : isStore(target) && storeyOf(file) < faces
      ).map((target) => `${file} → ${target}`)
    )
    expect(wrong).toEqual([])
  })

  it("ARCHITECTURE.md names every file of the upper rooms", () => {
    const page = readFileSync(path.join(root, "ARCHITECTURE.md"), "utf8")
    const names = sources.filter((file) => !file.includes("/") && file !== "index")
    expect(names.filter((name) => !page.includes(name))).toEqual([])
  })
})
