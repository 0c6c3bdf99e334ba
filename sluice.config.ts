import { defineConfig } from "effect-sluice/config"

// Settings by name; the environment overrides them. The full list: docs/operations.md
export default defineConfig({
  // DATABASE_URL: "postgres://user@host:5432/database",
  SLUICE_BATCH_SIZE: 100
})
