/**
 * What the examples in doc comments name without declaring it: a simulated patient's answers, and the application that keeps them.
 * The compiler reads this file beside the examples; nothing runs it.
 */
import {
  type ChunkLedger,
  type ChunkStore,
  type Handler,
  type HandlerRegistry,
  Output,
  OutputGroup,
  type Pauses,
  type ServiceCall
} from "effect-sluice"
import type { CallRecorder } from "effect-sluice/CallRecorder"
import type { Stores } from "effect-sluice/store/Stores"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"

const text = Schema.Struct({ text: Schema.String })
export class PatientInitial extends Output.make("schemas.chatlab.standardized_patient.patient-initial", {
  schema: text
}) {}
export class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", { schema: text }) {}
export class HotwashInitial extends Output.make("schemas.chatlab.hotwash.hotwash-initial", { schema: text }) {}
export class Feedback extends Output.make("schemas.core.feedback.feedback", { schema: text }) {}

const nothing = () => Effect.void
export const Chatlab = OutputGroup.make("chatlab", PatientInitial, PatientReply)
export const ChatlabHandlers = Chatlab.toLayer({ "patient-initial": nothing, "patient-reply": nothing })
export const Core = OutputGroup.make("core", Feedback)
export const CoreHandlers = Core.toLayer({ feedback: nothing })

/** A row of the application. */
export interface Message {
  readonly id: string
  readonly text: string
}
/** The application's repository of them. */
export class Messages extends Context.Service<Messages, {
  readonly insert: (text: string) => Effect.Effect<Message>
  readonly list: Effect.Effect<ReadonlyArray<Message>>
}>()("chatlab/Messages") {}
export declare const messages: Messages["Service"]
export declare const repositories: Layer.Layer<Messages>
export declare const makeTables: Effect.Effect<void, never, SqlClient>
export declare const attachMedia: (messageId: string) => Effect.Effect<void>

// what a program has at hand where the example begins
export declare const recorder: CallRecorder["Service"]
export declare const store: ChunkStore.ChunkStore["Service"]
export declare const ledger: ChunkLedger.ChunkLedger["Service"]
export declare const pauses: Pauses.Pauses["Service"]
export declare const registry: Layer.Layer<HandlerRegistry.HandlerRegistry>
export declare const stores: Layer.Layer<Stores>
export declare const callId: string
export declare const answer: { readonly text: string }
export declare const call: Handler.HandlerCall
export declare const calls: ReadonlyArray<ServiceCall.ServiceCall>
export declare const chunk: ChunkStore.ClaimedChunk
export declare const token: string
export declare const simulation: { readonly id: string; readonly closed: boolean }
export declare const request: { readonly headers: { readonly "last-event-id": string } }
