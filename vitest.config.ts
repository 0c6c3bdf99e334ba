import { defineConfig } from "vitest/config"

export default defineConfig({
  // "effect-sluice" is this project's own sources
  ssr: { resolve: { conditions: ["sluice-source"] } },
  resolve: { conditions: ["sluice-source"] },
  test: {
    include: ["test/**/*.test.ts", "examples/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    pool: "forks",
    maxWorkers: 3,
    // what a test that passed has logged is of no interest
    silent: "passed-only",
    testTimeout: 60_000,
    hookTimeout: 120_000
  }
})
