/**
 * Limits how much JSON one row of an answer may contain. A row is one message to the client, which refuses longer ones and
 * closes the connection. So the server limits each value before it sends it.
 */
import type * as Settings from "../../Settings.ts"

/** The client's limit for a message, 16 MiB, less the overhead around a value. */
const mostOfClient = 15 * 1024 * 1024

/** The most bytes of JSON sent in one row. A program that allows larger calls has raised the client's limit. */
export const longestOf = (settings: Settings.Values): number => Math.max(settings.maxResultBytes, mostOfClient)
