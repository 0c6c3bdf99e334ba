import { defineConfig } from "effect-sluice/config"

// Settings by their names, below those of the environment. All there are: docs/operations.md
export default defineConfig({
  // DATABASE_URL: "postgres://user@host:5432/database",
  SLUICE_BATCH_SIZE: 100
})
