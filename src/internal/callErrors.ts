/**
 * The errors of recording a call. `CallRecorder` exports them.
 */
import * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import { quote } from "./quote.ts"

/**
 * A call cannot be stored. Nothing was written; `path` names the invalid part of the call, `reason` says why it is
 * invalid.
 */
export class CallRefused extends Schema.TaggedError<CallRefused>()("CallRefused", {
  callId: Schema.String,
  path: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `call ${quote(this.callId)} cannot be recorded: ${this.path} ${this.reason}`
  }
}

/**
 * A call with this id is already recorded with other content. The recorded call stays unchanged; give the new call its
 * own id.
 */
export class CallConflict extends Schema.TaggedError<CallConflict>()("CallConflict", { callId: Schema.String }) {
  override get message() {
    return `call ${quote(this.callId)} is recorded already with other content, which stays as it is. ` +
      `Give the new call an id of its own`
  }
}

/** Another process is running this call now. */
export class CallRunning extends Schema.TaggedError<CallRunning>()("CallRunning", {
  callId: Schema.String,
  until: Schema.DateTimeUtcFromString
}) {
  override get message() {
    return `call ${quote(this.callId)} is being run elsewhere; if that run dies, ` +
      `it can be taken over after ${DateTime.formatIso(this.until)}`
  }
}

/**
 * The call's content was erased (`Erasure`), before it was run or while it ran. Nothing was recorded: an erased call stays
 * erased. Its service was not run, unless the erasure came in between.
 */
export class CallErased extends Schema.TaggedError<CallErased>()("CallErased", { callId: Schema.String }) {
  override get message() {
    return `call ${quote(this.callId)} was erased, and is not recorded or run again. ` +
      `If it is another call, give it an id of its own`
  }
}

/**
 * `run` was called inside a transaction. The service was not run: a rollback would lose a paid answer, and until the
 * commit no other process would see that the call is running.
 */
export class RunInTransaction
  extends Schema.TaggedError<RunInTransaction>()("RunInTransaction", { callId: Schema.String })
{
  override get message() {
    return `call ${quote(this.callId)} cannot be run inside a transaction, whose rollback would lose the answer. ` +
      `Nothing was run. Run it before the transaction, or run the service yourself and record what it answers`
  }
}
