import { it } from "@effect/vitest"
import { CallRecorder, Settings } from "effect-sluice"
import * as Answer from "effect-sluice/ai"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { expect } from "vitest"
import { callOf, mockModel, OrderTest, PatientReply } from "./mockModel.ts"

const memory = CallRecorder.layer.pipe(Layer.provideMerge(MemoryStore.layer), Layer.provideMerge(Settings.layer()))
it.live("tries", () => Effect.gen(function*() {
  const model = mockModel({ text: `{"text":"a","pain":"x"}` }, { text: `{"text":"a","pain":7,"since":"2026-10-01T00:00:00Z"}` })
  const a = yield* Answer.generateObject(PatientReply, { call: callOf("a"), prompt: "Where?", repair: 1, input: "prompt" }).pipe(Effect.provide(model.layer))
  console.log(a, JSON.stringify(model.asked[1]!.prompt))
  const t = mockModel({ calls: [{ id: "c1", name: "order-test", params: { test: "x-ray" } }, { id: "c2", name: "order-test", params: { test: "biopsy" } }, { id: "c3", name: "patient-reply", params: { text: "Ouch", pain: 3 } }] })
  console.log(yield* Answer.generateToolCalls([PatientReply, OrderTest], { call: callOf("b"), prompt: "?" }).pipe(Effect.provide(t.layer)))
  const s = mockModel({ calls: [{ id: "c1", name: "patient-reply", params: { text: "Ouch it hurts so", pain: 3 } }] })
  console.log(yield* Answer.streamObject(PatientReply, { call: { ...callOf("c") }, prompt: "?" }).pipe(Stream.runCollect, Effect.provide(s.layer)))
  const s2 = mockModel({ calls: [{ id: "c1", name: "patient-reply", params: { text: "Ouch it hurts so", pain: 3 } }], hold: Effect.never })
  console.log(yield* Answer.streamObject(PatientReply, { call: { ...callOf("d") }, prompt: "?" }).pipe(Stream.take(1), Stream.runCollect, Effect.provide(s2.layer)))
  expect(1).toBe(2)
}).pipe(Effect.provide(memory)))
