/**
 * What the examples in doc comments name without declaring it: a simulated patient's answers, and the application that keeps
 * them. The compiler reads this file beside the examples; nothing runs it.
 */
import {
  type ChunkLedger,
  type ChunkStore,
  type HandlerRegistry,
  Output,
  OutputGroup,
  type Pauses,
  type ServiceCall
} from "effect-sluice"
import type { CallRecorder } from "effect-sluice/CallRecorder"
import type { Stores } from "effect-sluice/store/Stores"
import type * as Chat from "effect/ai/Chat"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"

const Text = Schema.Struct({ text: Schema.String })
export class PatientInitial extends Output.make("schemas.chatlab.standardized_patient.patient-initial", {
  schema: Text
}) {}
export class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", { schema: Text }) {}
export class HotwashInitial extends Output.make("schemas.chatlab.hotwash.hotwash-initial", { schema: Text }) {}
export class Feedback extends Output.make("schemas.core.feedback.feedback", { schema: Text }) {}
export class Mood extends Output.make("schemas.chatlab.standardized_patient.mood", { schema: Text }) {}
export class OrderTest extends Output.make("schemas.chatlab.standardized_patient.order-test", { schema: Text }) {}
export class Referral extends Output.make("schemas.chatlab.standardized_patient.referral", { schema: Text }) {}
export class Finding extends Output.make("schemas.chatlab.standardized_patient.finding", {
  schema: Schema.Struct({ code: Schema.String, text: Schema.String })
}) {}

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
export declare const notifyWard: (callId: string) => Effect.Effect<void>
export declare const askForReview: (callId: string) => Effect.Effect<void>

// what a program has at hand where the example begins
export declare const recorder: CallRecorder["Service"]
export declare const store: ChunkStore.ChunkStore["Service"]
export declare const ledger: ChunkLedger.ChunkLedger["Service"]
export declare const pauses: Pauses.Pauses["Service"]
export declare const registry: Layer.Layer<HandlerRegistry.HandlerRegistry>
export declare const stores: Layer.Layer<Stores>
export declare const callId: string
export declare const answer: { readonly text: string }
export declare const text: string
export declare const call: ServiceCall.ServiceCall
export declare const calls: ReadonlyArray<ServiceCall.ServiceCall>
export declare const chunk: ChunkStore.ClaimedChunk
export declare const token: string
export declare const simulation: { readonly id: string; readonly closed: boolean }
// what it asks a model
export declare const requestId: string
export declare const conversationId: string
export declare const namespace: string
export declare const service: string
export declare const prompt: string
export declare const chat: Chat.Chat
export declare const ask: (prompt: string) => Effect.Effect<{
  readonly text: string
  readonly usage: { readonly input: number; readonly output: number }
}>
export declare const decodeAndEncode: (text: string) => Effect.Effect<ServiceCall.RecordedOutput, Schema.SchemaError>
export declare const request: { readonly headers: { readonly "last-event-id": string } }
