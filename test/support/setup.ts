/** Run by vitest at the beginning of each test file. */
import { afterAll } from "vitest"
import { endFile } from "./endOfFile.ts"

afterAll(endFile)
