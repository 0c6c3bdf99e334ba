/**
 * A handler module whose handlers are declared.
 */
import { HandlerPlugin } from "effect-sluice"
import * as Layer from "effect/Layer"
import { handlers, Laboratory } from "../support/declared.ts"

/** The laboratory's handlers. */
export const laboratory = HandlerPlugin.group(Laboratory).pipe(Layer.provide(handlers))
