/**
 * The demo's errors: one sentence on stderr, because stdout holds only the answer. The exit status is 1 if the demo failed
 * or lines were refused, 2 if the flags are wrong.
 */
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Console from "effect/Console"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"

/** The demo cannot continue. The message says what to do. */
export class DemoFailed extends Schema.TaggedError<DemoFailed>()("DemoFailed", { reason: Schema.String }) {
  override get [CliError.userMessage]() {
    return this.reason
  }
}

/** Flags that cannot be combined. */
export class WrongFlags extends Schema.TaggedError<WrongFlags>()("WrongFlags", { reason: Schema.String }) {
  override get [CliError.userMessage]() {
    return this.reason
  }
}

const formatter = CliOutput.defaultFormatter()

/** Prints usage errors without the help, which would push them out of sight. */
export const layer = Layer.succeed(CliOutput.Presenter, {
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Console.error(`${formatter.formatErrors(event.errors)}\n\n  See npm run demo -- --help`)
      : CliOutput.defaultPresenter.present(event)
})

const isWrongFlags = (error: unknown): boolean =>
  error instanceof WrongFlags || (CliError.isCliError(error) && error._tag === "ShowHelp" && error.errors.length > 0)

/** Sets the exit status. */
export const teardown: Runtime.Teardown = (exit, onExit) =>
  Runtime.defaultTeardown(
    exit,
    (code) => onExit(Exit.isFailure(exit) && isWrongFlags(Cause.squash(exit.cause)) ? 2 : code)
  )
