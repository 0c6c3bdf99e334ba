/**
 * What people see and do while workers run: who lives and serves what, a pause and its end, a doctor who is content.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterAll, expect, it } from "vitest"
import { Diagnosis } from "../../src/cli/commands/doctor.ts"
import { Status } from "../../src/cli/commands/status.ts"
import { PauseList } from "../../src/cli/commands/upkeep.ts"
import { freshDatabase } from "../support/Postgres.ts"
import { cleanUp, workplace } from "./workplace.ts"

const scope = Scope.makeUnsafe()
afterAll(async () => {
  cleanUp()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

it("workers are seen with what they serve, obey a pause, and leave when they are stopped", async () => {
  const place = workplace(await Effect.runPromise(Scope.provide(freshDatabase(), scope)))
  place.file("sluice.config.ts", "export default { SLUICE_BEAT_INTERVAL: \"100 millis\" }")
  place.handler("good")
  const running = place.start("drain", "--every", "100 millis", "--workers", "2")
  const look = () => place.asked(Status, "status")
  /** Looks until it is so. */
  const until = async (is: (status: typeof Status.Type) => boolean) => {
    let status = await look()
    while (!is(status)) status = await look()
    return status
  }
  while (!running.output.stderr.includes("draining")) await new Promise((resolve) => setTimeout(resolve, 20))

  await place.sluice("record", place.file("calls.jsonl", place.calls(5)))
  const { lastMinute, workers } = await until(({ kinds }) => kinds[0]?.persisted === 5)
  expect(lastMinute).toBe(5)
  expect(workers.map((worker) => worker.serves)).toEqual([
    ["clinic/schemas.clinic.ward.note"],
    ["clinic/schemas.clinic.ward.note"]
  ])
  expect((await place.sluice("status")).stdout).toMatch(/^worker \S+, seen \d+ s ago, serves note$/m)
  const healthy = await place.sluice("doctor")
  expect(healthy).toMatchObject({ status: 0, stdout: expect.stringContaining("ok  workers: 2 alive") })

  const paused = await place.asked(PauseList, "pause", "--namespace", "clinic", "--because", "a move")
  expect(paused).toMatchObject({ pauses: [{ namespace: "clinic", schemaIdentity: "*", reason: "a move" }] })
  // within a beat nothing is taken up any more: what is recorded stays, whoever looks at it
  for (let n = 100; ((await look()).kinds[0]?.parked ?? 0) === 0; n++) {
    await place.sluice("record", place.file("more.jsonl", place.calls(1, n)))
  }
  expect((await look()).pauses).toMatchObject([{ reason: "a move" }])
  expect((await place.asked(Diagnosis, "doctor")).findings.find((one) => one.check === "pauses"))
    .toMatchObject({ severity: "attention" })

  await place.sluice("resume", "--namespace", "clinic")
  await until(({ kinds: [kind] }) => (kind?.parked ?? 0) + (kind?.pending ?? 0) === 0 && (kind?.persisted ?? 0) > 5)
  running.child.kill("SIGTERM")
  expect((await running.ended).status).toBe(0)
  expect((await look()).workers).toEqual([])
}, 120_000)
