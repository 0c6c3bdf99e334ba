/** The errors of `recordNow` after which the call is recorded. */
export const recordedErrors = [
  "HandlerNotFound",
  "UnknownVersion",
  "HandlerFailed",
  "RetriesExhausted",
  "ChunkDead",
  "ChunkBusy"
] as const
