/**
 * The command on addresses that are no server's own: a pooler's, which it finds by itself, and those of several hosts.
 */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { describe, expect } from "vitest"
import { call } from "../contract/operators/dialogues.ts"
import { startPooler } from "../support/pooler.ts"
import { freshDatabase } from "../support/Postgres.ts"
import { handlers, running } from "./inProcess.ts"

const calls = Effect.acquireRelease(
  Effect.sync(() => {
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "sluice-between-")), "calls.jsonl")
    const lines = Array.from({ length: 30 }, (_, n) => JSON.stringify({ ...call(`call-${n}`), namespace: "clinic" }))
    fs.writeFileSync(file, lines.join("\n"))
    return file
  }),
  (file) => Effect.sync(() => fs.rmSync(path.dirname(file), { recursive: true }))
)

describe("behind a pooler in transaction mode, with default settings", () => {
  for (const sessions of [2, 5]) {
    it.live(`of ${sessions} sessions every command works, and says so in one sentence`, () =>
      Effect.gen(function*() {
        const url = yield* freshDatabase()
        const pooler = yield* Effect.acquireRelease(
          Effect.promise(() => startPooler(url, sessions)),
          (pooler) => Effect.promise(() => pooler.close())
        )
        const through = `postgres://postgres@127.0.0.1:${pooler.port}/any`
        const commands = [
          ["migrate"],
          ["record", yield* calls],
          ["drain", "--until-empty", "--workers", "2", ...handlers],
          ["status"],
          ["stuck"],
          ["show", "call-1"],
          ["pause", "--namespace", "clinic"],
          ["resume", "--namespace", "clinic"],
          ["dead", "list"]
        ]
        for (const args of commands) {
          const { reason: failed, stderr: said } = yield* running(...args, "--url", through)
          expect({ args, failed }).toEqual({ args, failed: "" })
          expect(said.match(/a pooler in transaction mode is in between: nothing is prepared\n/g)).toHaveLength(1)
        }
        expect((yield* running("status", "--url", url)).stdout).toMatch(/^30 persisted in the last minute$/m)
        expect((yield* running("status", "--url", url)).stderr).not.toContain("pooler")
        expect(pooler.moved()).toBeGreaterThan(0)
        const { stdout: printed } = yield* running("doctor", "--url", through)
        expect(printed).toContain(
          "!   pooler: one in transaction mode: hints from other processes do not arrive through it"
        )
      }).pipe(Effect.scoped), 120_000)
  }
})

describe("an address of several hosts", () => {
  it.live.each([
    ["postgres://ward:se,cret@one:5432,two:5432/clinic"],
    ["postgres://ward:se,cret@one,two/clinic?target_session_attrs=read-write"],
    ["postgresql://ward:secret@/clinic?host=one,two"]
  ])("%s is refused with what to write instead, and no password", ([url]) =>
    Effect.gen(function*() {
      const { reason: failed, stderr: said } = yield* running("status", "--url", url ?? "")
      expect(failed).toMatch(/names several hosts, .*: name the one that leads to it/)
      expect(failed + said).not.toMatch(/se,?cret/)
    }))

  it.live("a password with a comma is none", () =>
    Effect.gen(function*() {
      const { reason: failed } = yield* running("status", "--url", "postgres://ward:a,b@127.0.0.1:1/clinic")
      expect(failed).toMatch(/no Postgres server answers/)
    }))
})
