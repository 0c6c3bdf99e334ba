/**
 * The note in the failures of a rejected chunk about an answer that was asked for again.
 */

/** The message; undefined if the repair had no answer. */
export const repairNote = (
  { output, refused }: { readonly output?: unknown; readonly refused?: string | undefined }
): string | undefined =>
  refused !== undefined
    ? `asked again: ${refused}`
    : output === undefined
    ? undefined
    : "asked again: the chunk goes on with a new answer"
