/**
 * The address of a database: understood before a word of it is printed, and never with its password.
 */
import * as Result from "effect/Result"
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { mayHoldPassword, understand } from "../../src/cli/address.ts"
import { run } from "./inProcess.ts"

const understood: ReadonlyArray<readonly [address: string, shown: string]> = [
  ["postgres://clinic:sEcret@db:5432/app", "db:5432/app"],
  ["postgresql://clinic:sEcret@db/app?sslmode=require&sslpassword=sEcret", "db/app"],
  ["postgres://clinic@db/app?password=sEcret&connect_timeout=3", "db/app"],
  ["postgres://clinic:s%2FE%40c%23r%3Fet@127.0.0.1/app", "127.0.0.1/app"],
  ["postgres://clinic:sEcret@[::1]:5433/app", "[::1]:5433/app"],
  ["postgres://clinic:sEcret@@db/app", "db/app"],
  ["  postgres://clinic:sEcret@db/app\n", "db/app"],
  ["postgres:///app?host=/var/run/postgresql", "/var/run/postgresql/app"],
  ["postgres://clinic:sEcret@%2Fvar%2Frun/app", "/var/run/app"],
  ["postgres://clinic:sEcret@db/app?host=other&port=6432&dbname=third", "other:6432/third"],
  ["postgres://clinic:s E cret@db/app", "db/app"],
  ["postgres:///app", "localhost/app"]
]

const refused: ReadonlyArray<string> = [
  "postgres://clinic:1234/sEcret@127.0.0.1:5432/app",
  "postgres://clinic:p@ss/sEcret@127.0.0.1:5432/app",
  "postgres:/clinic:sEcret@127.0.0.1:5432/app",
  "postgres:clinic:sEcret@127.0.0.1:5432/app",
  "postgres://clinic:12#sEcret@db/app",
  "postgres://clinic:12?sEcret@db/app",
  "postgres://clinic:sEcret%@db/app",
  "postgres://clinic:sEcret%zz@db/app",
  "postgres://clinic:sEcret@one:5432,two:5432/app",
  "postgres://clinic:sEcret@one,two/app",
  "postgres://clinic:sEcret@db:port/app",
  "postgres://clinic:sEcret@db:99999/app",
  "postgres://clinic:sEcret@db/app?port=sEcret",
  "postgres://clinic:sEcret@db/app?sslmode=sEcret",
  "postgres://clinic:sEcret@db/app?connect_timeout=sEcret",
  "postgres://sEcret%20of%20ours/app",
  "mysql://clinic:sEcret@db/app",
  "host=db user=clinic password=sEcret",
  "clinic:sEcret@db/app",
  "//clinic:sEcret@db/app",
  "sEcret"
]

describe("an address", () => {
  it.each(understood)("is shown without what is nobody's business: %s", (address, shown) => {
    expect(understand(address)).toEqual(Result.succeed(shown))
  })

  it.each(refused)("that is not quite right is refused, without a word of it: %s", (address) => {
    const answer = understand(address)
    expect(Result.isFailure(answer)).toBe(true)
    const words = Result.isFailure(answer) ? answer.failure : ""
    for (const part of ["sEcret", "1234", "p@ss", "clinic"]) expect(words).not.toContain(part)
    expect(words).toMatch(/^(is|cannot|holds|names|has) /)
  })

  it("is seen where it was typed in another place", () => {
    const typed = refused.filter((address) => address !== "sEcret" && !address.startsWith("sEcret"))
    expect(typed.filter((address) => !mayHoldPassword(address))).toEqual([])
    for (const harmless of ["status", "call-1", "chatlab.Message:42", "5 seconds", "a@b"]) {
      expect(mayHoldPassword(harmless)).toBe(false)
    }
  })
})

describe("a password", { timeout: 120_000 }, () => {
  const here = process.cwd()
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-address-"))
  afterAll(() => {
    process.chdir(here)
    fs.rmSync(folder, { recursive: true })
  })

  it("is on no stream, wherever the address stands, and whatever is wrong with it", async () => {
    const say = async (what: string, ...args: ReadonlyArray<string>) => {
      const { failed, stderr, stdout } = await run(...args)
      expect([what, stdout + stderr]).toEqual([what, expect.not.stringContaining("sEcret")])
      expect([what, failed || what === "doctor", stdout + stderr]).toEqual([what, true, expect.stringMatching(/\w/)])
      return stderr
    }
    const nobody = "postgres://clinic:sEcret@127.0.0.1:1/app?sslpassword=sEcret"
    expect(await say("--url", "drain", "--url", nobody, "--log-level", "all")).toContain("database: 127.0.0.1:1/app")
    await say("doctor", "doctor", "--json", "--url", nobody, "--log-level", "all")
    for (const address of refused) {
      await say(`--url ${address}`, "status", "--json", "--url", address, "--log-level", "all")
    }
    // in the wrong place
    for (const address of [nobody, ...refused.filter(mayHoldPassword)]) {
      await say(`argument ${address}`, "status", address)
      await say(`argument, JSON ${address}`, "status", "--json", address)
      await say(`flag ${address}`, "status", `--urll=${address}`)
      await say(`value ${address}`, "stuck", "--limit", address)
      await say(`subcommand ${address}`, address)
    }
    const values = [`"postgres://clinic:1/sEcret@db/app"`, `new URL("${nobody}")`, `["${nobody}"]`]
    const settings = [...values.map((value) => `DATABASE_URL: ${value}`), `"${nobody}": 1`]
    for (const [index, setting] of settings.entries()) {
      const place = path.join(folder, String(index))
      fs.mkdirSync(place)
      fs.writeFileSync(path.join(place, "sluice.config.mjs"), `export default { ${setting} }`)
      process.chdir(place)
      await say(setting, "status", "--log-level", "all")
    }
  })
})
