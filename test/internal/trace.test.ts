/**
 * What is handed to other systems as a trace: only what is one.
 */
import { describe, expect, it } from "vitest"
import { linksOf } from "../../src/drain/observe/spans.ts"
import type { Prepared } from "../../src/drain/prepare.ts"
import { traceOf } from "../../src/internal/trace.ts"
import { noTraces, trace } from "../support/calls.ts"

describe("a trace", () => {
  it("is taken as it is, and nothing else of it", () => {
    expect(traceOf(trace)).toEqual(trace)
    expect(traceOf({ ...trace, traceId: trace.traceId.toUpperCase(), more: 1n })).toEqual({
      ...trace,
      traceId: trace.traceId.toUpperCase()
    })
  })

  it.each(noTraces)("is not %s, which no span is linked to", (_, wrong) => {
    expect(traceOf(wrong)).toBe(undefined)
    const chunk = { attempts: 0, key: { callId: "a", schemaIdentity: "b", part: "" }, namespace: "clinic" }
    // recorded by other means than the recorder
    const one = (trace: unknown) =>
      ({ chunk: { ...chunk, call: { trace } }, handler: { name: "c" } }) as unknown as Prepared
    expect(linksOf(one(wrong))).toEqual([])
    expect(linksOf(one(trace))).toMatchObject([{ span: trace }])
  })
})
