import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** The files that take longest. They begin first, so that none of them is left to run alone at the end. */
const longest = [
  "simulation/simulation",
  "faults/boundaries",
  "examples/demo",
  "contract/pglite",
  "cli/drain",
  "cli/modules",
  "contract/postgres15",
  "store/network",
  "contract/postgres18",
  "contract/pglite.long",
  "isolation/mates",
  "store/migrating",
  "cli/process",
  "runtimes",
  "interleave/interleave"
]

class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const placeOf = ({ moduleId }: TestSpecification) => {
      const place = longest.findIndex((name) => moduleId.endsWith(`test/${name}.test.ts`))
      return place === -1 ? longest.length : place
    }
    return (await super.sort(files)).sort((a, b) => placeOf(a) - placeOf(b))
  }
}

export default defineConfig({
  // "effect-sluice" is this project's own sources
  ssr: { resolve: { conditions: ["sluice-source"] } },
  resolve: { conditions: ["sluice-source"] },
  test: {
    include: ["test/**/*.test.ts", "examples/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    pool: "forks",
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    // what a test that passed has logged is of no interest
    silent: "passed-only",
    testTimeout: 60_000,
    hookTimeout: 120_000
  }
})
