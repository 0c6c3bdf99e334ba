/**
 * The errors of an embedded database that does not start.
 */
import * as Schema from "effect/Schema"

/** The folder is open in another process, or elsewhere in this one. */
export class FolderInUse extends Schema.TaggedError<FolderInUse>()("FolderInUse", {
  folder: Schema.String,
  pid: Schema.Int
}) {
  override get message() {
    return `the embedded database in ${this.folder} is open in process ${this.pid}; one process at a time may use it. ` +
      `Stop that one, or use a Postgres server`
  }
}

/** The embedded database did not start. */
export class EmbeddedFailed extends Schema.TaggedError<EmbeddedFailed>()("EmbeddedFailed", {
  reason: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message() {
    return `the embedded database did not start: ${this.reason}`
  }
}
