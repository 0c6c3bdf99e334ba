/**
 * The rows that the simulated application's handlers make.
 */
import { table } from "effect-sluice/store/MemoryDatabase"

/** A row that a handler made. */
export interface DomainRow {
  readonly id: string
  readonly callId: string
  readonly schema: string
  readonly part: string
  /** Whose it is, by the setting of the connection that wrote it. */
  readonly tenant: string | undefined
}

/** The rows that handlers made. */
export const domain = table<DomainRow>("clinic.note")
