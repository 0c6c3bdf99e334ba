/**
 * What the failures of a rejected chunk say of an answer that was asked for again.
 */

/** The message; undefined where no answer had come. */
export const repairNote = (
  { output, refused }: { readonly output?: unknown; readonly refused?: string | undefined }
): string | undefined =>
  refused !== undefined
    ? `asked again: ${refused}`
    : output === undefined
    ? undefined
    : "asked again: the chunk goes on with a new answer"
