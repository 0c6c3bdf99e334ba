import { configDefaults, defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

/**
 * The files that take longest, of those with a process of their own. They begin first, so that none of them is left to run
 * alone at the end.
 */
const longest = [
  "simulation/simulation",
  "cli/drain",
  "faults/boundaries",
  "interleave/interleave",
  "cli/process",
  "examples/demo",
  "contract/pglite",
  "cli/modules",
  "cli/journey",
  "faults/inside",
  "faults/answers",
  "consumer",
  "contract/postgres15",
  "store/network",
  "contract/postgres18",
  "contract/pglite.long",
  "isolation/mates",
  "store/migrating",
  "runtimes"
]

/** The same of those that share processes, which come behind the others: the first of these. */
const longestShared = [
  "subscription/anotherCluster",
  "isolation/culprits",
  "drain/locked",
  "store/outage",
  "simulation/answers",
  "TableHandler",
  "handlers/page",
  "drain/inside",
  "drain/triggers",
  "WakeUp",
  "store/locks",
  "store/sessionSettings",
  "store/counted",
  "TableHandler.tables",
  "TableHandler.types"
]

/**
 * Files that have a process of their own: those whose tests change or read what belongs to the process (working directory,
 * environment, signals, what is printed, metrics, module hooks), and those that need a lot of its memory. Each of the
 * others takes the process of the one before it, with the modules that are loaded there.
 */
const alone = [
  ...longest.map((name) => `test/${name}.test.ts`),
  "test/{ai,chaos,cli,examples,faults,programs}/**/*.test.ts",
  "test/{bundled,CallFacts,consumer,HandlerDiscovery,logs,Metrics,Shutdown}.test.ts",
  "test/store/{Gauges,Pglite,Pglite.rights,shadows,upgrade}.test.ts",
  "test/testing/{Rehearsal,TestDatabase}.test.ts"
]

class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const placeOf = ({ moduleId, project }: TestSpecification) => {
      // those that share processes are last, so that no process is ended between them
      const [first, names] = project.name === "shared" ? [longest.length + 1, longestShared] : [0, longest]
      const place = names.findIndex((name) => moduleId.endsWith(`test/${name}.test.ts`))
      return first + (place !== -1 ? place : names.length)
    }
    return (await super.sort(files)).sort((a, b) => placeOf(a) - placeOf(b))
  }
}

const include = ["test/**/*.test.ts", "examples/**/*.test.ts"]

/** "effect-sluice" is this project's own sources. */
const resolve = { conditions: ["sluice-source"] }

const project = (
  test: {
    readonly name: string
    readonly isolate: boolean
    readonly include: Array<string>
    readonly exclude?: Array<string>
  }
) => ({
  ssr: { resolve },
  resolve,
  test: {
    pool: "forks" as const,
    // much is made and soon forgotten: with more room for it, Node spends a quarter less on the same tests
    execArgv: ["--max-semi-space-size=128", "--min-semi-space-size=64"],
    setupFiles: ["test/support/setup.ts"],
    // what a test that passed has logged is of no interest
    silent: "passed-only" as const,
    // no limit that a busy machine could reach: it is for what hangs
    testTimeout: 300_000,
    hookTimeout: 240_000,
    ...test
  }
})

export default defineConfig({
  ssr: { resolve },
  resolve,
  test: {
    globalSetup: ["test/support/globalSetup.ts"],
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    projects: [
      project({ name: "alone", isolate: true, include: alone }),
      project({ name: "shared", isolate: false, include, exclude: [...configDefaults.exclude, ...alone] })
    ]
  }
})
