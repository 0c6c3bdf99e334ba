/**
 * What tests ask a store.
 */
import * as Inspector from "../../Inspector.ts"

/** A call and what became of its chunks. */
export const call = (callId: string) => Inspector.Inspector.use((inspector) => inspector.call(callId))
/** Counts by kind. */
export const status = Inspector.Inspector.use((inspector) => inspector.status)
/** When something may be claimed next. */
export const nextDue = Inspector.Inspector.use((inspector) => inspector.nextDue)
