/**
 * The example's own calls: two consultations, a tutor's assessment, an answer without a handler, one that does not decode,
 * and a line that is not a call.
 */
import type { CallFacts, ServiceCall } from "effect-sluice"

const group = "chatlab.standardized_patient"

/** What a provider says of its answer, and the cost at 0.25 and 2 dollars for a million tokens. */
const factsOf = (inputTokens: number, outputTokens: number): CallFacts.CallFacts => ({
  provider: "openai",
  requestModel: "gpt-5-mini",
  inputTokens,
  outputTokens,
  cost: { micros: Math.round(inputTokens / 4) + 2 * outputTokens, currency: "USD" }
})

const call = (
  number: number,
  simulationId: string,
  question: string,
  output: string,
  data: ServiceCall.RecordedOutput["data"]
) => ({
  callId: `sample-${number}`,
  namespace: "chatlab",
  service: `services.${group}.generate-${output === "patient-reply" ? "reply" : "answer"}`,
  correlationId: `consultation-${simulationId}`,
  context: { simulationId },
  orderingKey: simulationId,
  input: { user_message: question },
  facts: factsOf(400 + question.length, Math.ceil(JSON.stringify(data).length / 4)),
  finishedAt: `2026-01-05T09:00:${String(number).padStart(2, "0")}Z`,
  outputs: [{ schema: `schemas.${group}.${output}`, version: 1, data }]
})

const says = (text: string) => ({ role: "patient", content: [{ type: "output_text", text }], item_meta: {} })
const found = (text: string, key?: string) => ({
  role: "assistant",
  content: [{ type: "output_text", text }],
  item_meta: key === undefined ? {} : { key }
})

const calls = [
  call(1, "knee-1", "What brings you here today?", "patient-initial", {
    messages: [says("My right knee has been swollen since Sunday.")],
    metadata: [found("54", "age"), found("football on Saturday", "history")],
    llm_conditions_check: []
  }),
  call(2, "cough-2", "How can I help?", "patient-initial", {
    messages: [says("I have been coughing for three weeks."), says("At night it is worst.")],
    metadata: [found("31", "age")],
    llm_conditions_check: []
  }),
  call(3, "knee-1", "Can you bend it?", "patient-reply", {
    image_requested: false,
    messages: [says("Only a little, then it hurts on the inside.")],
    llm_conditions_check: []
  }),
  call(4, "cough-2", "Any fever?", "patient-reply", {
    image_requested: false,
    messages: [says("Not any more. In the first week I had.")],
    llm_conditions_check: [{ key: "fever", value: "resolved" }]
  }),
  call(5, "knee-1", "May I see it?", "patient-reply", {
    image_requested: true,
    messages: [says("Of course. It is this side.")],
    llm_conditions_check: []
  }),
  call(6, "knee-1", "Write the note.", "patient-results", {
    // two findings without a key: both are kept, as result and result-2
    metadata: [found("Effusion of the right knee"), found("Possible tear of the medial meniscus")]
  }),
  // no handler for this kind yet: the chunk is parked until a program with one is deployed
  call(7, "cough-2", "How was the conversation?", "hotwash-initial", {
    feedback: [found("Asked about fever early", "strength")]
  }),
  // an empty reply does not decode: retries would not help
  call(8, "rash-3", "Does it itch?", "patient-reply", { image_requested: false, messages: [] }),
  // of another namespace, whose handler is declared
  {
    ...call(9, "knee-1", "Assess the consultation.", "assessment", {}),
    namespace: "tutor",
    service: "services.tutor.consultation.assess",
    outputs: [{
      schema: "schemas.tutor.consultation.assessment",
      version: 1,
      data: {
        grade: 2,
        remarks: [
          { about: "history", remark: "Asked for the accident at once." },
          { about: "examination", remark: "Compare it with the other knee." }
        ]
      }
    }]
  }
]

/** The samples as lines of a file of recorded calls. The last line is cut off in the middle. */
export const sampleLines: ReadonlyArray<string> = [
  ...calls.map((one) => JSON.stringify(one)),
  JSON.stringify(calls[0]).slice(0, 120)
]
