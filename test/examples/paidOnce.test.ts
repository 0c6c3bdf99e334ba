/**
 * The example that shows what becomes of a paid answer, run as a user runs it.
 */
import { afterAll, expect, it } from "vitest"
import { killAll, start } from "./runDemo.ts"

afterAll(killAll)

it("an answer is paid once, its bad element dies alone, and its tokens are counted", async () => {
  const { status, stderr, stdout } = await start("paid-once.ts").ended
  expect(stdout.split("\n")).toEqual([
    "the model is asked",
    "the request came again: answered from the record",
    "no-greeting: persisted",
    "no-consent: dead",
    "interrupted: persisted",
    "scripted/scripted-1: 1 call, 812 tokens in, 96 out",
    ""
  ])
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" })
})
