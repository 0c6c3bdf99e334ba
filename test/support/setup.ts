/** Run by vitest at the beginning of each test file. */
import { afterAll, vi } from "vitest"
import { endFile } from "./endOfFile.ts"

afterAll(endFile)

vi.mock(import("@electric-sql/pglite"), async (original) => {
  const found = await original()
  const { useImage } = await import("./pgliteImage.ts")
  useImage(found.PGlite)
  return found
})
