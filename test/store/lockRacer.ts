/**
 * A process that takes a folder again and again beside others, and dies of it every other time, as far as its lock knows.
 * Says when it was not alone in there, and how often it had the folder.
 */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import path from "node:path"
import { lockFolder } from "../../src/store/pglite/folderLock.ts"

const [folder = "", times = "", dead = ""] = process.argv.slice(2)
const say = (line: string) => process.stdout.write(`${line}\n`)
const mark = path.join(folder, "somebody-is-here")
const lock = path.join(folder, "sluice.lock")

const enter = () => {
  try {
    fs.writeFileSync(mark, "", { flag: "wx" })
  } catch {
    say("not alone")
  }
}

const visit = (number: number) =>
  Effect.gen(function*() {
    yield* lockFolder(folder)
    enter()
    // long enough for another to come in, if it can
    yield* Effect.sleep(1)
    fs.rmSync(mark, { force: true })
    if (number % 2 === 0) return
    for (const entry of fs.readdirSync(lock)) {
      fs.renameSync(path.join(lock, entry), path.join(lock, `${dead}.1-boot.${process.pid}-${number}`))
    }
  }).pipe(Effect.scoped)

let refused = 0
await Effect.runPromise(Effect.gen(function*() {
  for (let number = 0; number < Number(times); number++) {
    while (true) {
      const taken = yield* Effect.result(visit(number))
      if (taken._tag === "Success") break
      if (taken.failure._tag === "FolderInUse") refused++
      else say(taken.failure.message)
    }
  }
}))
say(`taken ${times} times${refused > 0 ? ", refused in between" : ""}`)
