/**
 * How much JSON one row of an answer may hold. A row is one message to the client, which refuses longer ones, and its
 * connection with them: what a statement hands out is bounded before it is sent.
 */
import type * as Settings from "../../Settings.ts"

/** What the client takes as one message, 16 MiB, less what stands around a value in it. */
const mostOfClient = 15 * 1024 * 1024

/** The most bytes of JSON that are handed out in one row. Who lets calls hold more has told the client to take more. */
export const longestOf = (settings: Settings.Values): number => Math.max(settings.maxResultBytes, mostOfClient)
