/**
 * The rows that the simulated application's handlers make.
 */
import { table } from "effect-sluice/store/MemoryDatabase"

/** A row that a handler made. The store gives a number as its id when it carries out a declaration. */
export interface DomainRow {
  readonly id: string | number
  readonly callId: string
  readonly schema: string
  readonly part: string
  /** Its place among those of its chunk, from 0. */
  readonly text: string
  /** Whose it is: by the setting of the connection that wrote it, or by the call's context. */
  readonly tenant?: string | undefined
}

/** The rows that handlers made. */
export const domain = table<DomainRow>("clinic.note")

/** The text of a row that the table of declared handlers refuses. */
export const refused = "refused"
