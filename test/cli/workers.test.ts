/**
 * What people see and do while workers run: who lives and serves what, a pause and its end, a doctor who is content.
 */
import { expect, it } from "vitest"
import { Diagnosis } from "../../src/cli/commands/doctor.ts"
import { Status } from "../../src/cli/commands/status.ts"
import { PauseList } from "../../src/cli/commands/upkeep.ts"
import { until, ward } from "./workplace.ts"

it("workers are seen with what they serve, obey a pause, and leave when they are stopped", async () => {
  const place = await ward("good")
  const running = place.start("drain", "--every", "1h", "--workers", "2")
  const look = () => place.asked(Status, "status")
  const lookUntil = (is: (status: typeof Status.Type) => boolean) => until(look, is)
  await running.says("draining")

  await place.record(5)
  const { lastMinute, workers } = await lookUntil(({ kinds }) => kinds[0]?.persisted === 5)
  expect(lastMinute).toBe(5)
  const pid = String(running.child.pid)
  const serves = ["clinic/schemas.clinic.ward.note"]
  expect(workers).toMatchObject([{ pid, serves, alive: true, versions: { [serves[0] ?? ""]: 1 } }, {
    pid,
    serves,
    alive: true
  }])
  expect((await place.sluice("status")).stdout)
    .toMatch(new RegExp(`^worker \\S+ pid ${pid}: seen .* ago, serves clinic/note v1$`, "m"))
  const healthy = await place.sluice("doctor")
  expect(healthy).toMatchObject({ status: 0, stdout: expect.stringContaining("ok  workers: 2 alive") })

  const paused = await place.asked(PauseList, "pause", "--namespace", "clinic", "--because", "a move")
  expect(paused).toMatchObject({ pauses: [{ namespace: "clinic", schemaIdentity: "*", reason: "a move" }] })
  // nothing is taken up any more: what is recorded stays, whoever looks at it
  let n = 100
  const recordAndLook = async () => (await place.record(1, n++), await look())
  await until(recordAndLook, ({ kinds }) => (kinds[0]?.parked ?? 0) > 0)
  expect((await place.sluice("status")).stdout).toMatch(/^paused: clinic\/\*: a move$/m)
  expect((await place.asked(Diagnosis, "doctor")).findings.find((one) => one.check === "pauses"))
    .toMatchObject({ severity: "attention" })

  await place.sluice("resume", "--namespace", "clinic")
  await lookUntil(({ kinds: [kind] }) => (kind?.parked ?? 0) + (kind?.ready ?? 0) === 0 && (kind?.persisted ?? 0) > 5)

  // one that is killed is silent before it is forgotten
  running.child.kill("SIGKILL")
  await running.ended
  expect((await look()).workers).toHaveLength(2)
  const next = place.start("drain", "--every", "1h")
  await next.says("draining")
  await lookUntil(({ workers }) => workers.length === 3)
  next.child.kill("SIGTERM")
  expect((await next.ended).status).toBe(0)
  // one that is stopped says so
  expect((await look()).workers.map((worker) => worker.pid)).toEqual([pid, pid])
})
