/**
 * The chat laboratory's handlers, in a folder where `sluice drain` finds them. The command provides the `SqlClient`.
 */
import { HandlerPlugin } from "effect-sluice"
import * as Layer from "effect/Layer"
import { ChatlabHandlers } from "../handlers.ts"
import { Chatlab } from "../outputs.ts"
import * as repositories from "../repositories.ts"

export const chatlab = HandlerPlugin.group(Chatlab).pipe(
  Layer.provide(ChatlabHandlers),
  Layer.provide(repositories.layerPg)
)
