/**
 * Limits of months are limits: Node ends a timer at once whose time does not fit.
 */
import * as Duration from "effect/Duration"
import { expect, it } from "vitest"
import { timerMillis } from "../../src/internal/timer.ts"

it("a timer for a duration beyond what Node takes does not end at once", async () => {
  const warned: Array<string> = []
  const listen = ({ name }: Error) => warned.push(name)
  process.on("warning", listen)
  clearTimeout(setTimeout(() => {}, timerMillis(Duration.days(365))))
  // Node warns with the next tick
  await new Promise((resolve) => setImmediate(resolve))
  process.off("warning", listen)
  expect(warned).not.toContain("TimeoutOverflowWarning")
  expect(timerMillis(Duration.seconds(5))).toBe(5000)
})
