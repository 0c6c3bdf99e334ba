/**
 * Checks that the rows that a handler names fit into one message, before they enter the ledger: inline persisting,
 * displaying the call and subscriptions read them as part of one message.
 */
import { type DomainObject, maxObjectBytes, maxObjects } from "../DomainObject.ts"

// the ledger prints {"id": "1", "type": "clinic.Note"} and a comma, with blanks that JSON.stringify leaves out
const blanks = 5

/** The reason why the rows cannot be written to the ledger, as the rest of a sentence that begins with "the handler". */
export const objectsProblem = (objects: ReadonlyArray<DomainObject>): string | undefined => {
  const instead = "give back fewer, such as the row that the others belong to"
  if (objects.length > maxObjects) return `names ${objects.length} rows, more than ${maxObjects}: ${instead}`
  let bytes = 0
  // a cheap upper bound, enough for nearly all: an escaped character has at most six bytes
  for (const { id, type } of objects) bytes += 40 + 6 * (id.length + type.length)
  if (bytes <= maxObjectBytes) return undefined
  bytes = 0
  for (const { id, type } of objects) bytes += Buffer.byteLength(JSON.stringify({ type, id })) + blanks
  return bytes <= maxObjectBytes
    ? undefined
    : `names rows by ${bytes} bytes of JSON, more than ${maxObjectBytes}: ${instead}`
}
