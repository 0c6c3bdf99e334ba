/**
 * The tutor's assessment of a consultation. Its rows are the fields of the answer, so its handler is declared: no
 * repository, no client, and the same rows in memory.
 */
import { Output, OutputGroup, TableHandler } from "effect-sluice"
import * as Schema from "effect/Schema"

/** A grade, and a remark for each thing that the tutor noticed. */
export class Assessment extends Output.make("schemas.tutor.consultation.assessment", {
  version: 1,
  schema: Schema.Struct({
    grade: Schema.Int,
    remarks: Schema.Array(Schema.Struct({ about: Schema.String, remark: Schema.String }))
  })
}) {}

/** The outputs of the tutor. */
export const Tutor = OutputGroup.make("tutor", Assessment)

/** A row for each assessment, and one for each of its remarks, which has the assessment's id. */
export const TutorHandlers = Tutor.toLayer({
  assessment: TableHandler.make(Assessment, {
    table: "chatlab.assessment",
    object: "tutor.Assessment",
    columns: ({ call, output }) => ({
      simulation_id: call.context("simulationId"),
      grade: output.grade,
      call_id: call.callId,
      assessed_at: call.finishedAt
    }),
    children: ({ child }) => [
      child({
        table: "chatlab.remark",
        object: "tutor.Remark",
        each: ({ output }) => output.remarks,
        columns: ({ item, parent, place }) => ({
          assessment_id: parent,
          place,
          about: item.about,
          remark: item.remark
        })
      })
    ]
  })
})
