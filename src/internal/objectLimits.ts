/**
 * Whether the rows that a handler names can be read again, asked before they stand in the ledger: whoever persists the call
 * inline, shows it or subscribes reads them as part of one message.
 */
import { type DomainObject, maxObjectBytes, maxObjects } from "../DomainObject.ts"

// as the ledger prints it: {"id": "1", "type": "clinic.Note"} and a comma, with blanks that JSON.stringify leaves out
const blanks = 5

/** What keeps the rows from being written to the ledger, in words that go on from "the handler". */
export const objectsProblem = (objects: ReadonlyArray<DomainObject>): string | undefined => {
  const instead = "give back fewer, such as the row that the others belong to"
  if (objects.length > maxObjects) return `names ${objects.length} rows, more than ${maxObjects}: ${instead}`
  let bytes = 0
  // nearly all are far from it, and need not be measured: escaped, a character is six bytes at most
  for (const { id, type } of objects) bytes += 40 + 6 * (id.length + type.length)
  if (bytes <= maxObjectBytes) return undefined
  bytes = 0
  for (const { id, type } of objects) bytes += Buffer.byteLength(JSON.stringify({ type, id })) + blanks
  return bytes <= maxObjectBytes
    ? undefined
    : `names rows by ${bytes} bytes of JSON, more than ${maxObjectBytes}: ${instead}`
}
